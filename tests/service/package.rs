//! The Debian package: what Cargo.toml says is in it, installed into a folder as the package would, and
//! used from there. Where cargo-deb is, the package itself is built and held against that.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::{Dir, run};
use crate::not_run::not_here;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");
const UNIT: &str = "usr/lib/systemd/system/sockrec.service";

/// What is installed, with the mode it gets.
type Files = BTreeMap<String, u32>;

/// The repository as it is when a package is built: with the program, here the one that is tested, and
/// what was generated. `root` beside it is what the package is installed into.
struct Staged {
    dir: Dir,
    deb: Value,
}

impl Staged {
    fn new() -> Self {
        let dir = Dir::new();
        let tree = dir.path("tree");
        fs::create_dir_all(tree.join("target/release")).unwrap();
        for entry in fs::read_dir(REPOSITORY).unwrap().map(Result::unwrap) {
            if entry.file_name() != "target" && entry.file_name() != ".git" {
                symlink(entry.path(), tree.join(entry.file_name())).unwrap();
            }
        }
        symlink(env!("CARGO_BIN_EXE_sockrec"), tree.join("target/release/sockrec")).unwrap();
        let mut generate = Command::new("packaging/generate");
        generate.args(["target/release/sockrec", "target/package"]).current_dir(&tree);
        assert_fine(&generate.stdin(Stdio::null()).output().unwrap());
        let mut metadata = Command::new(env!("CARGO"));
        metadata.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
        let output = metadata.current_dir(&tree).stdin(Stdio::null()).output().unwrap();
        assert_fine(&output);
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        let deb = metadata["packages"][0]["metadata"]["deb"].clone();
        Self { dir, deb }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path("tree")
    }

    fn root(&self, name: &str) -> PathBuf {
        self.dir.path("root").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.root(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// What an asset's source means, `*` standing for a part of a file's name.
    fn sources(&self, pattern: &str) -> Vec<PathBuf> {
        let path = self.tree().join(pattern);
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some((begin, end)) = name.split_once('*') else { return vec![path] };
        let names =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
        let is_meant = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(begin) && name.ends_with(end)
        };
        names.filter(is_meant).collect()
    }

    /// Installs every asset, and the unit where cargo-deb has it.
    fn install(&self) -> Files {
        let mut files = Files::new();
        for asset in self.deb["assets"].as_array().unwrap() {
            let [source, target, mode] = [0, 1, 2].map(|part| asset[part].as_str().unwrap());
            let sources = self.sources(source);
            assert!(!sources.is_empty(), "{source}: there is none");
            for path in sources {
                let name = path.file_name().unwrap().to_str().unwrap();
                let target = if target.ends_with('/') {
                    format!("{target}{name}")
                } else {
                    target.to_owned()
                };
                files.insert(target.clone(), u32::from_str_radix(mode, 8).unwrap());
                self.install_file(&path, &target, files[&target]);
            }
        }
        let units = &self.deb["systemd-units"];
        let [scripts, name] = ["unit-scripts", "unit-name"].map(|key| units[key].as_str().unwrap());
        let unit = self.tree().join(scripts).join(format!("{name}.service"));
        self.install_file(&unit, UNIT, 0o644);
        files.insert(UNIT.to_owned(), 0o644);
        files
    }

    /// By a process of its own: a child that another test starts just then would hold a program that is
    /// written here open, and who is open to be written cannot be run.
    fn install_file(&self, source: &Path, target: &str, mode: u32) {
        assert!(fs::metadata(source).is_ok_and(|file| file.len() > 0), "no {}", source.display());
        let mut install = Command::new("install");
        install.arg("-D").arg(format!("--mode={mode:o}")).args([source, &self.root(target)]);
        assert_fine(&install.stdin(Stdio::null()).output().unwrap());
    }
}

#[track_caller]
fn assert_fine(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

/// What a program says of its version; `None`, said aloud, where it is not there.
fn version(program: &str, arguments: &[&str], what: &str) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok();
    match output.filter(|output| output.status.success()) {
        Some(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        None => {
            not_here(what, &format!("there is no `{program} {}`", arguments.join(" ")));
            None
        }
    }
}

#[test]
fn the_package_brings_all_that_its_unit_and_settings_name() {
    let staged = Staged::new();
    let files = staged.install();
    let is_there = |name: &str| files.contains_key(name.trim_start_matches('/'));
    // What is changed by hand survives an upgrade.
    for name in staged.deb["conf-files"].as_array().unwrap() {
        assert!(is_there(name.as_str().unwrap()), "{name} is not installed");
    }
    let settings: Vec<_> = files.keys().filter(|name| name.starts_with("etc/")).collect();
    assert_eq!(settings.len(), staged.deb["conf-files"].as_array().unwrap().len(), "{settings:?}");
    let unit = staged.read(UNIT);
    let of = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut command = of("ExecStart=").split(' ');
    let program = command.next().unwrap();
    assert_eq!(files.get(program.trim_start_matches('/')), Some(&0o755), "{program}");
    let named = command.filter(|word| word.starts_with("/etc/")).chain([of("EnvironmentFile=-")]);
    for name in named {
        assert!(is_there(name), "{name} is not installed");
    }
    for page in of("Documentation=").split(' ') {
        let page = page.strip_prefix("man:").and_then(|page| page.strip_suffix("(1)")).unwrap();
        assert!(is_there(&format!("usr/share/man/man1/{page}.1")), "{page} is not installed");
    }
    // Settings name what is there, too.
    assert!(staged.read("etc/default/sockrec").contains("/etc/sockrec/limits.conf"));
    for name in [
        "usr/share/bash-completion/completions/sockrec",
        "usr/share/zsh/vendor-completions/_sockrec",
        "usr/share/fish/vendor_completions.d/sockrec.fish",
        "usr/share/doc/sockrec/examples/namespaces.conf",
        "usr/share/doc/sockrec/docs/OPERATIONS.md",
    ] {
        assert!(is_there(name), "{name} is not installed");
    }
    // Nobody begins to record because something was installed.
    let units = &staged.deb["systemd-units"];
    assert_eq!((&units["enable"], &units["start"]), (&Value::Bool(false), &Value::Bool(false)));
}

/// What the machine itself has: its own units, and `kill` for the reload.
fn add_what_every_machine_has(staged: &Staged) {
    let units = ["/usr/lib/systemd/system", "/lib/systemd/system"].map(Path::new);
    let units = units.into_iter().find(|units| units.exists());
    for unit in units.into_iter().flat_map(|units| fs::read_dir(units).unwrap()) {
        let path = unit.unwrap().path();
        if path.is_file() {
            fs::copy(&path, staged.root(UNIT).with_file_name(path.file_name().unwrap())).unwrap();
        }
    }
    fs::create_dir_all(staged.root("bin")).unwrap();
    fs::copy("/bin/kill", staged.root("bin/kill")).unwrap();
}

#[test]
fn systemd_finds_nothing_wrong_with_what_is_installed() {
    let what = "the installed unit";
    if version("systemd-analyze", &["--version"], what).is_none() {
        return;
    }
    let staged = Staged::new();
    staged.install();
    add_what_every_machine_has(&staged);
    let verify = || {
        let mut analyze = Command::new("systemd-analyze");
        analyze.arg(format!("--root={}", staged.root("").display()));
        analyze.args(["--man=no", "--recursive-errors=no", "verify", "sockrec.service"]);
        analyze.stdin(Stdio::null()).output().unwrap()
    };
    let output = verify();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // With the drop-in that it brings for network namespaces, put where the manual says.
    let drop_in = staged.root("etc/systemd/system/sockrec.service.d/namespaces.conf");
    fs::create_dir_all(drop_in.parent().unwrap()).unwrap();
    fs::copy(staged.root("usr/share/doc/sockrec/examples/namespaces.conf"), drop_in).unwrap();
    let output = verify();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // It is looked at, in this folder.
    fs::remove_file(staged.root("usr/bin/sockrec")).unwrap();
    let output = verify();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("Command /usr/bin/sockrec is not executable"), "{output:?}");
}

#[test]
fn what_is_installed_works_from_there() {
    let staged = Staged::new();
    let files = staged.install();
    let program = staged.root("usr/bin/sockrec");
    let of_program = |words: &str| run(staged.dir.command_at(&program, words.split(' ')));
    let version_line = concat!("sockrec ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(of_program("--version").fine().stdout(), version_line);
    let limits = "record -q -i 10ms -c 3 -o rec.db --limits root/etc/sockrec/limits.conf";
    of_program(limits).recorded();
    of_program("info -f rec.db").fine();
    let mut bash = Command::new("bash");
    bash.arg("-n").arg(staged.root("usr/share/bash-completion/completions/sockrec"));
    match bash.stdin(Stdio::null()).output() {
        Ok(output) => assert!(output.status.success() && output.stderr.is_empty(), "{output:?}"),
        Err(_) => not_here("installed completions", "there is no bash"),
    }
    let pages = files.keys().filter(|name| name.starts_with("usr/share/man/"));
    let pages: Vec<_> = pages.map(|name| staged.root(name)).collect();
    assert!(pages.len() > 30, "{pages:?}");
    // Some systems have something else under this name that only says why there is no man.
    let Some(told) = version("man", &["--version"], "installed man pages") else { return };
    if !told.starts_with("man ") {
        not_here("installed man pages", "`man` is another program");
        return;
    }
    for page in pages {
        let mut man = Command::new("man");
        man.args(["--warnings", "--local-file"]).arg(&page);
        man.env("LC_ALL", "C.UTF-8")
            .env("MANWIDTH", "80")
            .env_remove("MANPAGER")
            .env("PAGER", "cat");
        let output = man.stdin(Stdio::null()).output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}: {output:?}",
            page.display()
        );
        assert!(output.stdout.starts_with(b"sockrec"), "{}: {output:?}", page.display());
    }
}

/// Everything below a folder but folders, with modes.
fn files_below(root: &Path, below: &str, files: &mut Files) {
    for entry in fs::read_dir(root.join(below)).unwrap().map(Result::unwrap) {
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        match entry.file_type().unwrap().is_dir() {
            true => files_below(root, &format!("{name}/"), files),
            false => {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
                files.insert(name, mode);
            }
        }
    }
}

#[test]
fn the_built_package_holds_what_is_said_of_it() {
    let what = "the package itself";
    if version(env!("CARGO"), &["deb", "--version"], what).is_none()
        || version("dpkg-deb", &["--version"], what).is_none()
    {
        return;
    }
    let staged = Staged::new();
    let mut expected = staged.install();
    let mut deb = Command::new(env!("CARGO"));
    deb.args(["deb", "--offline", "--locked", "--no-build", "--no-strip", "--fast", "--output"]);
    let package = staged.dir.path("sockrec.deb");
    deb.arg(&package)
        .current_dir(staged.tree())
        .env("CARGO_TARGET_DIR", staged.tree().join("target"));
    assert_fine(&deb.stdin(Stdio::null()).output().unwrap());
    let unpacked = staged.dir.path("unpacked");
    let mut extract = Command::new("dpkg-deb");
    assert_fine(&extract.arg("--extract").args([&package, &unpacked]).output().unwrap());
    let mut found = Files::new();
    files_below(&unpacked, "", &mut found);
    // cargo-deb packs man pages as Debian has them, and writes the copyright.
    let of_debian = |name: String| match name.starts_with("usr/share/man/") {
        true => format!("{name}.gz"),
        false => name,
    };
    expected = expected.into_iter().map(|(name, mode)| (of_debian(name), mode)).collect();
    expected.insert("usr/share/doc/sockrec/copyright".to_owned(), 0o644);
    assert_eq!(found, expected);
    let mut check = Command::new(Path::new(REPOSITORY).join("packaging/check-deb"));
    assert_fine(&check.arg(&package).stdin(Stdio::null()).output().unwrap());
}

//! `record --user NAME`

use anyhow::Context;

use super::message::usage;
use crate::kernel::{become_user, find_user};

/// Goes on as this user, with the capabilities that recording has a use for.
pub(super) fn go_on_as(name: &str, enters_namespaces: bool) -> anyhow::Result<()> {
    let user = find_user(name)
        .with_context(|| format!("could not look up the user `{name}`"))?
        .ok_or_else(|| {
            usage(format!("there is no user `{name}`"), Some("`getent passwd` lists them"))
        })?;
    become_user(user, enters_namespaces).map_err(|e| {
        usage(
            format!("could not go on as `{name}`: {e}"),
            Some("`--user` is for a recorder that root starts; any user may record without it"),
        )
    })
}

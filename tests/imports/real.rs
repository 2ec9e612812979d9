use crate::harness::Dir;
#[test]
fn placeholder() {
    let _ = Dir::new();
}

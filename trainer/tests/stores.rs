//! The program with a store in a directory: there is no cloud that it would have to ask.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

const INITIAL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/initial");

/// The program where nothing says what region this is, so that whoever wants to know asks the machine's metadata.
fn twinscaler(metadata: &TcpListener, store: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twinscaler"));
    command.args(arguments).arg("--store").arg(store);
    for name in ["AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED", "RUST_LOG"] {
        command.env_remove(name);
    }
    let nowhere = store.join("nowhere");
    command.env("AWS_CONFIG_FILE", &nowhere).env("AWS_SHARED_CREDENTIALS_FILE", &nowhere);
    let metadata = format!("http://{}", metadata.local_addr().unwrap());
    command.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata).output().unwrap()
}

#[test]
fn policies_in_a_directory_change_without_a_question_to_aws() {
    let store = tempfile::tempdir().unwrap();
    let metadata = TcpListener::bind("127.0.0.1:0").unwrap();
    metadata.set_nonblocking(true).unwrap();
    let promoted = twinscaler(&metadata, store.path(), &["promote", "--pool", "p", "--policy", INITIAL]);
    assert_eq!(String::from_utf8_lossy(&promoted.stderr), "");
    assert!(promoted.status.success());
    let rolled_back = twinscaler(&metadata, store.path(), &["rollback", "--pool", "p"]);
    let said = String::from_utf8_lossy(&rolled_back.stderr);
    assert_eq!(rolled_back.status.code(), Some(1), "there is no policy before the first: {said}");
    assert!(!said.contains("WARN"), "{said}");
    assert_eq!(metadata.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "nobody asked");
}

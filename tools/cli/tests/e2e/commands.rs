//! The commands that look and print.

use crate::support::{SOON, finish, forebay};

fn said(arguments: &[&str]) -> String {
    let output = finish(forebay(arguments), SOON);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn version_and_info_speak_to_people_and_to_scripts() {
    assert_eq!(said(&["version"]), format!("forebay {}\n", env!("CARGO_PKG_VERSION")));
    assert!(said(&["version", "--json"]).starts_with("{\"version\":\""));
    assert!(said(&["info"]).contains("io_uring"));
    assert!(said(&["info"]).contains("FUSE channel"));
    assert!(said(&["info"]).contains("of it unless node.memory says otherwise"));
    assert!(said(&["info", "--json"]).contains("\"kernel_suffices\":true"));
}

#[test]
fn config_list_shows_every_setting_with_its_variable() {
    let listed = said(&["config", "list"]);
    assert!(listed.contains("(FOREBAY_CACHE_PAGE_SIZE, at start)\ncache.page_size = \"1MiB\"\n"), "{listed}");
    assert!(said(&["config", "list", "--json"]).contains("\"stop_grace\":\"30s\""));
}

#[test]
fn help_teaches_by_example() {
    let help = said(&["up", "--help"]);
    assert!(help.contains("Examples:") && help.contains("--cache-size"), "{help}");
}

#[test]
fn nonsense_is_refused_with_status_2() {
    let output = finish(forebay(["upp"]), SOON);
    assert_eq!(output.status.code(), Some(2));
}

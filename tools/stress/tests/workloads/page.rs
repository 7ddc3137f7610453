//! The page of `--html`.

use crate::support::run;
use quick_xml::events::Event;
use std::collections::BTreeMap;

/// How often each element is there; fails unless all are closed in order.
fn elements(page: &str) -> BTreeMap<String, usize> {
    let mut reader = quick_xml::Reader::from_str(page);
    reader.config_mut().check_end_names = true;
    let mut count = BTreeMap::new();
    let mut open = 0;
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("{error} at {}", reader.error_position())) {
            Event::Start(element) | Event::Empty(element) if element.name().as_ref() == b"script" => {
                panic!("a script")
            }
            Event::Start(element) => {
                open += 1;
                *count.entry(String::from_utf8(element.name().as_ref().to_vec()).unwrap()).or_default() += 1;
            }
            Event::End(_) => open -= 1,
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(open, 0);
    count
}

#[test]
fn a_page_stands_alone_and_has_two_charts_for_each_phase() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("<page>&.html");
    let line = format!("fuse-io DIR --files 2 --file-size 64KiB --buffer 16KiB --html {}", path.display());
    run(&line, dir.path()).result.unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    let count = elements(&page);
    assert_eq!((count["svg"], count["h2"]), (6, 4), "write, read, list, and the settings");
    // Throughput: write, read, list. Latency: open, write, fsync, close, file; open, read, close; list.
    assert_eq!(count["polyline"], 3 + 5 + 3 + 1);
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn trials_and_failures_are_on_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("page.html");
    let line = format!(
        "metadata DIR --ops stat --max --from 50000 --duration 20ms --files 20 --html {}",
        path.display()
    );
    run(&line, dir.path()).result.unwrap();
    let page = std::fs::read_to_string(&path).unwrap();
    elements(&page);
    assert!(page.contains("stat: highest rate"), "{page}");
    std::fs::write(dir.path().join("rm.sh"), "rm \"$DIR/t0/d0/f0\"").unwrap();
    let html = path.display();
    let line = format!("small-files DIR --count 2 --then sh\tDIR/rm.sh --name <b>& --html {html}");
    run(&line, dir.path()).result.unwrap_err();
    let page = std::fs::read_to_string(&path).unwrap();
    elements(&page);
    assert!(page.contains("1 of delete in delete failed, the first: No such file"), "{page}");
    assert!(page.contains("&lt;b&gt;&amp;"), "{page}");
}

#[test]
fn a_page_that_cannot_be_written_is_known_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let refused = run("fuse-io DIR --html DIR/none/page.html", dir.path());
    assert!(matches!(refused.result, Err(forebay_stress::Error::Io { .. })) && refused.text.is_empty());
}

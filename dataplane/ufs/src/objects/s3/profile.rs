//! The profile files of the AWS tools: `~/.aws/credentials` and `~/.aws/config`.
//!
//! Format as in "Configuration and credential file settings" of the AWS CLI's user guide: sections in
//! brackets (in `config`, all but `default` are named `profile NAME`), `name = value` lines, comments that
//! begin with `#` or `;`, and indented lines, which belong to a nested setting and are skipped. `credentials`
//! comes before `config`.

use std::collections::BTreeMap;

/// Settings by which other programs obtain credentials. We do not run them.
const UNSUPPORTED: [&str; 5] =
    ["credential_process", "sso_session", "sso_start_url", "role_arn", "source_profile"];

/// The settings of one profile.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Profile {
    settings: BTreeMap<String, String>,
    /// Whether the user named it.
    pub(super) asked_for: bool,
}

impl Profile {
    /// The profile of this name; `None` if neither file has it.
    pub(super) fn find(name: &str, credentials: &str, config: &str) -> Option<Self> {
        let in_config = if name == "default" { name.to_owned() } else { format!("profile {name}") };
        let (first, second) = (section(credentials, name), section(config, &in_config));
        if first.is_none() && second.is_none() {
            return None;
        }
        let mut settings = second.unwrap_or_default();
        settings.extend(first.unwrap_or_default());
        Some(Self { settings, asked_for: false })
    }

    pub(super) fn get(&self, setting: &str) -> Option<String> {
        self.settings.get(setting).cloned()
    }

    /// A setting by which credentials would come that we cannot follow.
    pub(super) fn unsupported(&self) -> Option<&'static str> {
        UNSUPPORTED.into_iter().find(|setting| self.settings.contains_key(*setting))
    }
}

/// The settings of a section; `None` if the file has none of this name.
fn section(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found = None;
    let mut inside = false;
    for line in text.lines() {
        let indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(header) = line.strip_prefix('[').filter(|_| !indented) {
            let header = header.split(']').next().unwrap_or("");
            inside = header.split_whitespace().eq(name.split_whitespace());
            if inside {
                found.get_or_insert_with(BTreeMap::new);
            }
        } else if let (true, false, Some((key, value))) = (inside, indented, line.split_once('=')) {
            let value = value.split(" #").next().unwrap_or("").trim();
            found.get_or_insert_with(BTreeMap::new).insert(key.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn profiles_are_found_in_both_files() {
        let credentials =
            "# keys\n[default]\naws_access_key_id=a\n\n[ work ]\nAWS_ACCESS_KEY_ID = b # mine\n";
        let config =
            "[default]\nregion = r1\ns3 =\n  region = nested\n[profile work]\nregion=r2\n[work]\nregion=no\n";
        let default = Profile::find("default", credentials, config).unwrap();
        assert_eq!(
            (default.get("aws_access_key_id").as_deref(), default.get("region").as_deref()),
            (Some("a"), Some("r1"))
        );
        let work = Profile::find("work", credentials, config).unwrap();
        assert_eq!(
            (work.get("aws_access_key_id").as_deref(), work.get("region").as_deref()),
            (Some("b"), Some("r2"))
        );
        assert!(Profile::find("nobody", credentials, config).is_none());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "([\\[\\]= \t#;a\n]|default|.){0,80}") {
            let _ = Profile::find("default", &text, &text);
        }
    }
}

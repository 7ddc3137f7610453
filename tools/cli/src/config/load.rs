//! The layers of the configuration: defaults, file, environment.

use super::{Config, FIELDS, locate};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// `FOREBAY_*` variables that are no settings: the command line reads them where its help says so.
const NOT_SETTINGS: [&str; 2] = ["FOREBAY_CONFIG", "FOREBAY_SOCKET"];
/// Variables with this beginning speak to the tests and to builds made for them.
const FOR_TESTS: &str = "FOREBAY_TEST_";

/// Why there is no configuration. Each names where the fault stands and what was expected there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file could not be read.
    #[error("cannot read the configuration file {file}: {source}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no TOML, has an unknown key, or a value of another kind or unit.
    #[error("{file}:{line}: {key}{fault}", file = file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The dotted key and a colon, or nothing where no key is at fault.
        key: String,
        /// What is wrong and what was expected.
        fault: String,
    },
    /// A variable names no setting.
    #[error(
        "the environment variable {0} names no setting; known are {known}",
        known = FIELDS.iter().map(super::Field::variable).collect::<Vec<_>>().join(", ")
    )]
    UnknownVariable(String),
    /// A variable's value is of another kind or unit.
    #[error("the environment variable {variable} ({key}): {fault}")]
    Variable {
        /// The variable.
        variable: String,
        /// The setting it stands for.
        key: &'static str,
        /// What is wrong and what was expected.
        fault: String,
    },
}

/// Makes a configuration from the defaults, `file` if one is given, and the `environment`.
///
/// # Errors
/// [`ConfigError`]: nothing is guessed and nothing unknown is passed over.
pub(crate) fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut config = match file {
        Some(file) => from_file(file)?,
        None => Config::default(),
    };
    for (variable, value) in environment.filter(|(name, _)| name.starts_with("FOREBAY_")) {
        if !NOT_SETTINGS.contains(&variable.as_str()) && !variable.starts_with(FOR_TESTS) {
            apply_variable(&mut config, variable, &value)?;
        }
    }
    Ok(config)
}

fn from_file(file: &Path) -> Result<Config, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    toml::from_str(&text).map_err(|error| explain(file, &text, &error))
}

fn explain(file: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start);
    let key = locate::key_at(text, offset).map(|key| format!("{key}: ")).unwrap_or_default();
    ConfigError::Invalid {
        file: file.to_owned(),
        line: locate::line_of(text, offset),
        key,
        fault: error.message().replace('\n', " "),
    }
}

fn apply_variable(config: &mut Config, variable: String, value: &str) -> Result<(), ConfigError> {
    let Some(field) = FIELDS.iter().find(|field| field.variable() == variable) else {
        return Err(ConfigError::UnknownVariable(variable));
    };
    *config = with(config, field.path, value).map_err(|fault| ConfigError::Variable {
        variable,
        key: field.path,
        fault,
    })?;
    Ok(())
}

/// `config` with one setting changed; the text may be a bare string or a TOML value, and `none` takes an optional one
/// away.
///
/// # Errors
/// What was expected in its place.
pub(crate) fn changed(config: &Config, path: &str, text: &str) -> Result<Config, String> {
    if text != "none" {
        return with(config, path, text);
    }
    let mut table = toml::Table::try_from(config).expect("a configuration is a table of tables");
    let (section, key) = path.split_once('.').expect("every path of the field table has a section");
    if let Some(section) = table.get_mut(section).and_then(toml::Value::as_table_mut) {
        section.remove(key);
    }
    Config::deserialize(table).map_err(|error| error.message().replace('\n', " "))
}

fn with(config: &Config, path: &str, text: &str) -> Result<Config, String> {
    let as_string = replaced(config, path, toml::Value::String(text.to_owned()));
    as_string.or_else(|fault| {
        let value = format!("value = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("value"));
        value.and_then(|value| replaced(config, path, value).ok()).ok_or(fault)
    })
}

fn replaced(config: &Config, path: &str, value: toml::Value) -> Result<Config, String> {
    let mut table = toml::Table::try_from(config).expect("a configuration is a table of tables");
    let (section, key) = path.split_once('.').expect("every path of the field table has a section");
    let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
    section.as_table_mut().expect("a section is a table").insert(key.to_owned(), value);
    Config::deserialize(table).map_err(|error| error.message().replace('\n', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_types::ByteSize;
    use proptest::prelude::*;

    fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("forebay.toml");
        std::fs::write(&file, text).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(Some(&file), environment).map_err(|e| e.to_string())
    }

    fn fault(text: &str) -> String {
        load_text(text, &[]).unwrap_err()
    }

    #[test]
    fn later_layers_win() {
        let text = "[cache]\nsize = \"1GiB\"\ndir = \"/a\"\n[node]\ncores = [0]\n";
        let environment =
            [("FOREBAY_CACHE_SIZE", "2GiB"), ("FOREBAY_NODE_CORES", "[0, 1]"), ("HOME", "/root")];
        let config = load_text(text, &environment).unwrap();
        assert_eq!(config.cache.size, Some(ByteSize::gib(2)));
        assert_eq!(config.cache.dir, Some("/a".into()));
        assert_eq!(config.node.cores, [0, 1]);
        assert_eq!(load(None, std::iter::empty()).unwrap(), Config::default());
    }

    #[test]
    fn a_fault_names_file_line_key_and_what_was_expected() {
        let unknown = fault("[cache]\n\nsise = \"1GiB\"\n");
        assert!(
            unknown.contains("forebay.toml:3: cache.sise: unknown field `sise`, expected one of"),
            "{unknown}"
        );
        let unit = fault("[cache]\nsize = \"64GB\"\n");
        assert!(unit.contains("forebay.toml:2: cache.size: \"64GB\" is not a size"), "{unit}");
        assert!(unit.contains("write it like 512MiB or 64GiB"), "{unit}");
        let kind = fault("[node]\nstop_grace = 30\n");
        assert!(
            kind.contains(":2: node.stop_grace: invalid type: integer `30`, expected a string"),
            "{kind}"
        );
        let missing = fault("[[mounts]]\nat = \"/\"\n");
        assert!(missing.contains("missing field `ufs`"), "{missing}");
        let mode = fault("[[mounts]]\nufs = \"/a\"\npolicy.write_mode = \"fast\"\n");
        assert!(
            mode.contains(
                ":3: mounts.0.policy.write_mode: unknown variant `fast`, expected one of `through`"
            ),
            "{mode}"
        );
        let syntax = fault("[cache]\nsize = \n");
        assert!(syntax.contains("forebay.toml:2: "), "{syntax}");
    }

    #[test]
    fn a_variable_that_is_wrong_is_named() {
        let wrong = load_text("", &[("FOREBAY_CACHE_SIZE", "64GB")]).unwrap_err();
        assert!(wrong.contains("FOREBAY_CACHE_SIZE (cache.size): \"64GB\" is not a size"), "{wrong}");
        let unknown = load_text("", &[("FOREBAY_CACHE_SISE", "1GiB")]).unwrap_err();
        assert!(unknown.contains("FOREBAY_CACHE_SISE names no setting"), "{unknown}");
        assert!(load_text("", &[("FOREBAY_SOCKET", "/x")]).is_ok());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load(Some(Path::new("/nonexistent/f.toml")), std::iter::empty()).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/f.toml"), "{error}");
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "[\\[\\]a-z=\"0-9 \n.é{},]{0,80}") {
            let _ = load_text(&text, &[]);
        }
    }
}

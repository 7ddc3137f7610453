//! Options, environment and profile files, in this order, made into one configuration.
//!
//! | what | option | environment | profile |
//! |---|---|---|---|
//! | key id | `access_key_id` | `AWS_ACCESS_KEY_ID` | `aws_access_key_id` |
//! | secret | `secret_access_key` | `AWS_SECRET_ACCESS_KEY` | `aws_secret_access_key` |
//! | session | `session_token` | `AWS_SESSION_TOKEN` | `aws_session_token` |
//! | region | `region` | `AWS_REGION`, `AWS_DEFAULT_REGION` | `region` |
//! | endpoint | `endpoint` | `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` | `endpoint_url` |
//! | which profile | `profile` | `AWS_PROFILE` | |
//! | files | | `AWS_SHARED_CREDENTIALS_FILE`, `AWS_CONFIG_FILE` | |
//!
//! Also the options `anonymous`, `virtual_hosted`, `unsigned_payload`, and `atomic_puts`, which says that a
//! store at an endpoint of its own compares and replaces in one step as S3 does.

use super::profile::Profile;
use crate::error::OpenError;
use crate::objects::settings::Settings;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

const REGION_USUAL: &str = "us-east-1";

/// Looks up an environment variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Who we are to the store.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    Anonymous,
    Static {
        key_id: String,
        secret_key: String,
        token: Option<String>,
    },
    /// From the machine: web identity, container or instance metadata.
    FromMachine,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Static { .. } => "Static(..)",
            Self::FromMachine => "FromMachine",
        })
    }
}

/// Where a bucket is, and who we are to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) bucket: String,
    pub(super) region: String,
    /// Whether somebody named the region; a guessed one is corrected by the store's own word.
    pub(super) region_is_given: bool,
    endpoint: Option<String>,
    virtual_hosted: bool,
    pub(super) credentials: Credentials,
    pub(super) sign_payload: bool,
    /// Whether the store compares and replaces in one step.
    pub(super) atomic: bool,
    /// Whether it refuses a put whose condition does not hold; `None`: that is found out.
    pub(super) keeps_conditions: Option<bool>,
}

impl Config {
    pub(super) fn resolve(
        url: &str,
        bucket: &str,
        given: &BTreeMap<String, String>,
        environment: Environment<'_>,
    ) -> Result<Self, OpenError> {
        let mut settings = Settings::new(url, given);
        let profile_name = settings.text("profile");
        let profile = load_profile(&settings, profile_name, environment)?;
        let env = |names: &[&str]| names.iter().find_map(|name| environment(name)).filter(|v| !v.is_empty());
        let region = settings
            .text("region")
            .or_else(|| env(&["AWS_REGION", "AWS_DEFAULT_REGION"]))
            .or_else(|| profile.get("region"));
        let elsewhere =
            env(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]).or_else(|| profile.get("endpoint_url"));
        let endpoint = match settings.endpoint()? {
            Some(endpoint) => Some(endpoint),
            None => elsewhere.map(|text| settings.check_endpoint(&text)).transpose()?,
        };
        let credentials = credentials(&mut settings, &profile, environment)?;
        // A bucket with a dot in its name has no certificate under the store's own name.
        let virtual_hosted =
            settings.flag("virtual_hosted")?.unwrap_or(endpoint.is_none() && !bucket.contains('.'));
        let sign_payload = !settings.flag("unsigned_payload")?.unwrap_or(false);
        let said = settings.flag("atomic_puts")?;
        let atomic = said.unwrap_or(endpoint.is_none());
        settings.finish()?;
        Ok(Self {
            bucket: bucket.to_owned(),
            region_is_given: region.is_some(),
            region: region.unwrap_or_else(|| REGION_USUAL.to_owned()),
            endpoint,
            virtual_hosted,
            credentials,
            sign_payload,
            atomic,
            keeps_conditions: said.or(atomic.then_some(true)),
        })
    }

    /// The URL of the bucket.
    pub(super) fn bucket_url(&self) -> String {
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None if self.region.starts_with("cn-") => format!("https://s3.{}.amazonaws.com.cn", self.region),
            None => format!("https://s3.{}.amazonaws.com", self.region),
        };
        match endpoint.split_once("://") {
            Some((scheme, host)) if self.virtual_hosted => format!("{scheme}://{}.{host}", self.bucket),
            _ => format!("{endpoint}/{}", self.bucket),
        }
    }

    /// Whether the endpoint is spoken to without TLS.
    pub(super) fn plain_http(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }
}

fn credentials(
    settings: &mut Settings<'_>,
    profile: &Profile,
    environment: Environment<'_>,
) -> Result<Credentials, OpenError> {
    let given =
        (settings.text("access_key_id"), settings.text("secret_access_key"), settings.text("session_token"));
    let anonymous = settings.flag("anonymous")?.unwrap_or(false);
    let env = |name| environment(name).filter(|value| !value.is_empty());
    let from_env = (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"), env("AWS_SESSION_TOKEN"));
    let from_profile = (
        profile.get("aws_access_key_id"),
        profile.get("aws_secret_access_key"),
        profile.get("aws_session_token"),
    );
    if anonymous {
        return Ok(Credentials::Anonymous);
    }
    // The three belong together: a key id from one place never goes with a secret from another. A profile
    // that was asked for by name comes before the environment, as it does in the AWS tools.
    let ordered = match profile.asked_for {
        true => [given, from_profile, from_env],
        false => [given, from_env, from_profile],
    };
    for (key_id, secret_key, token) in ordered {
        match (key_id, secret_key) {
            (None, None) => {}
            (Some(key_id), Some(secret_key)) => return Ok(Credentials::Static { key_id, secret_key, token }),
            (Some(_), None) => {
                return Err(settings.invalid("secret_access_key", "there is a key id without it".into()));
            }
            (None, Some(_)) => {
                return Err(settings.invalid("access_key_id", "there is a secret key without it".into()));
            }
        }
    }
    match profile.unsupported() {
        Some(setting) => Err(settings.invalid(
            "profile",
            format!(
                "its credentials come by `{setting}`, which forebay does not run: export them to the environment \
                 (aws configure export-credentials --format env)"
            ),
        )),
        None => Ok(Credentials::FromMachine),
    }
}

fn load_profile(
    settings: &Settings<'_>,
    given: Option<String>,
    environment: Environment<'_>,
) -> Result<Profile, OpenError> {
    let home = environment("HOME").map(PathBuf::from);
    let file = |name: &str, usual: &str| {
        environment(name)
            .map(PathBuf::from)
            .or_else(|| home.as_ref().map(|home| home.join(".aws").join(usual)))
    };
    let asked_for = given.is_some();
    let name = given.or_else(|| environment("AWS_PROFILE")).filter(|name| !name.is_empty());
    let required = name.is_some();
    let name = name.unwrap_or_else(|| "default".to_owned());
    let read = |path: Option<PathBuf>| path.and_then(|path| read_file(&path)).unwrap_or_default();
    let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
    let config = read(file("AWS_CONFIG_FILE", "config"));
    match Profile::find(&name, &credentials, &config) {
        Some(mut profile) => {
            profile.asked_for = asked_for;
            Ok(profile)
        }
        None if required => {
            let reason = format!("there is no profile {name:?} in ~/.aws/credentials or ~/.aws/config");
            Err(settings.invalid("profile", reason))
        }
        None => Ok(Profile::default()),
    }
}

/// A file that is missing or closed to us is as good as empty: credentials may come from elsewhere.
fn read_file(path: &Path) -> Option<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a profile file cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [(&str, &str); 2] =
        [("AWS_ACCESS_KEY_ID", "env-id"), ("AWS_SECRET_ACCESS_KEY", "env-secret")];

    fn resolve(given: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Config, OpenError> {
        let given = given.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let lookup = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, v)| v.to_string());
        Config::resolve("s3://data/p", "data", &given, &lookup)
    }

    fn key_id(config: &Config) -> &str {
        let Credentials::Static { key_id, .. } = &config.credentials else { panic!("{config:?}") };
        key_id
    }

    #[test]
    fn buckets_have_urls() {
        let aws = resolve(&[("region", "eu-west-1")], &KEYS).unwrap();
        assert_eq!(aws.bucket_url(), "https://data.s3.eu-west-1.amazonaws.com");
        assert!(aws.atomic && !aws.plain_http() && aws.region_is_given);
        let own = resolve(&[("endpoint", "http://host:9000/")], &KEYS).unwrap();
        assert_eq!(own.bucket_url(), "http://host:9000/data");
        assert!(!own.atomic && own.plain_http() && own.region == "us-east-1");
        let china = resolve(&[("region", "cn-north-1")], &KEYS).unwrap();
        assert_eq!(china.bucket_url(), "https://data.s3.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn credentials_come_in_their_order_and_together() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        std::fs::write(
            &file,
            "[default]\naws_access_key_id = file-id\naws_secret_access_key = file-secret\n\
             [other]\naws_access_key_id = other-id\naws_secret_access_key = other-secret\nregion = xx-1\n",
        )
        .unwrap();
        let file = ("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap());
        assert_eq!(key_id(&resolve(&[], &[file]).unwrap()), "file-id");
        assert_eq!(key_id(&resolve(&[], &[file, KEYS[0], KEYS[1]]).unwrap()), "env-id");
        let given = [("access_key_id", "my-id"), ("secret_access_key", "my-secret")];
        assert_eq!(key_id(&resolve(&given, &[file, KEYS[0], KEYS[1]]).unwrap()), "my-id");
        let other = resolve(&[("profile", "other")], &[file, KEYS[0], KEYS[1]]).unwrap();
        assert_eq!((key_id(&other), &*other.region), ("other-id", "xx-1"));
        let half = resolve(&[("access_key_id", "my-id")], &KEYS).unwrap_err().to_string();
        assert!(half.contains("secret_access_key"), "{half}");
        let missing = resolve(&[("profile", "nobody")], &[file]).unwrap_err().to_string();
        assert!(missing.contains("no profile \"nobody\""), "{missing}");
        assert_eq!(resolve(&[], &[]).unwrap().credentials, Credentials::FromMachine);
        assert_eq!(resolve(&[("anonymous", "true")], &KEYS).unwrap().credentials, Credentials::Anonymous);
    }

    #[test]
    fn secrets_are_not_shown() {
        let config = resolve(&[], &KEYS).unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("env-secret") && !shown.contains("env-id"), "{shown}");
    }

    #[test]
    fn endpoints_are_checked() {
        for bad in ["host:9000", "ftp://host", "http://me:hunter2@host", "not a url"] {
            let error = resolve(&[("endpoint", bad)], &KEYS).unwrap_err().to_string();
            assert!(error.contains("https://host:9000") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_a_profile_would_run_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config");
        std::fs::write(&file, "[profile sso]\nsso_session = corp\n").unwrap();
        let env = [("AWS_CONFIG_FILE", file.to_str().unwrap()), ("AWS_PROFILE", "sso")];
        let error = resolve(&[], &env).unwrap_err().to_string();
        assert!(error.contains("sso_session") && error.contains("export-credentials"), "{error}");
    }
}

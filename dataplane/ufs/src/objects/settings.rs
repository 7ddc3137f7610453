//! The options of a store by name, each used once and none left over.

use crate::error::OpenError;
use crate::options::COMMON;
use std::collections::BTreeMap;

/// The options a user gave for one store.
pub(crate) struct Settings<'a> {
    url: &'a str,
    left: BTreeMap<String, String>,
    known: Vec<&'static str>,
}

impl<'a> Settings<'a> {
    pub(crate) fn new(url: &'a str, given: &BTreeMap<String, String>) -> Self {
        Self { url, left: given.clone(), known: Vec::new() }
    }

    /// Takes an option out.
    pub(crate) fn text(&mut self, option: &'static str) -> Option<String> {
        self.known.push(option);
        self.left.remove(option).filter(|value| !value.is_empty())
    }

    /// Takes out an option that is `true` or `false`.
    pub(crate) fn flag(&mut self, option: &'static str) -> Result<Option<bool>, OpenError> {
        match self.text(option).as_deref() {
            None => Ok(None),
            Some("true" | "yes" | "1") => Ok(Some(true)),
            Some("false" | "no" | "0") => Ok(Some(false)),
            Some(_) => Err(self.invalid(option, "it is true or false".into())),
        }
    }

    /// Takes out the address of the store, without a slash at its end.
    pub(crate) fn endpoint(&mut self) -> Result<Option<String>, OpenError> {
        self.text("endpoint").map(|text| self.check_endpoint(&text)).transpose()
    }

    /// Checks the address of a store, wherever it comes from.
    pub(crate) fn check_endpoint(&self, text: &str) -> Result<String, OpenError> {
        let invalid = |why: &str| self.invalid("endpoint", format!("{why}; write it like https://host:9000"));
        let parsed = url::Url::parse(text).map_err(|_| invalid("it is not a URL"))?;
        if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
            return Err(invalid("it is no HTTP address"));
        }
        if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() {
            return Err(invalid("it must hold no credentials and no query"));
        }
        Ok(text.trim_end_matches('/').to_owned())
    }

    /// Checks that every option given was asked for.
    pub(crate) fn finish(self) -> Result<(), OpenError> {
        let Some(option) = self.left.keys().next() else { return Ok(()) };
        let known = [&self.known[..], &COMMON].concat().join(", ");
        Err(self.invalid(option, format!("there is no such option; there are {known}")))
    }

    pub(crate) fn invalid(&self, option: &str, reason: String) -> OpenError {
        OpenError::Option { url: self.url.to_owned(), option: option.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_option_is_named_and_its_value_is_not() {
        let given = BTreeMap::from([("secert_key".to_owned(), "hunter2".to_owned())]);
        let mut settings = Settings::new("s3://b", &given);
        assert_eq!(settings.text("secret_key"), None);
        let error = settings.finish().unwrap_err().to_string();
        assert!(error.contains("secert_key") && error.contains("secret_key"), "{error}");
        assert!(!error.contains("hunter2"));
    }
}

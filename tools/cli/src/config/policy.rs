//! Policies as people write them: `key=value` pairs over what applies now.

use crate::failure::{Failure, Outcome};
use forebay_namespace::{Policy, PolicyChange};
use forebay_types::Placement;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `policy` with each pair put in; the value `none` takes a setting back to its default, or to the mount's.
///
/// # Errors
/// An unknown key, or a value of another kind or unit, with what was expected.
pub(crate) fn with_policy<P: Serialize + DeserializeOwned>(
    policy: &P,
    changes: &[(String, String)],
) -> Outcome<P> {
    let mut table = toml::Table::try_from(policy).expect("a policy is a table of scalars");
    for (key, text) in changes {
        if text == "none" {
            refuse_unknown::<P>(key)?;
            table.remove(key);
            continue;
        }
        let bare = toml::Value::String(text.clone());
        let typed = format!("value = {text}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("value"));
        table = put::<P>(&table, key, bare).or_else(|failure| match typed {
            Some(value) => put::<P>(&table, key, value).map_err(|_| failure),
            None => Err(failure),
        })?;
    }
    read(table).map_err(Failure::new)
}

/// A key alone: whatever its value should be, one that is unknown is told as such.
fn refuse_unknown<P: DeserializeOwned>(key: &str) -> Outcome<()> {
    let table = toml::Table::from_iter([(key.to_owned(), toml::Value::Array(Vec::new()))]);
    match read::<P>(table) {
        Err(fault) if fault.contains("unknown field") => Err(Failure::new(fault)),
        _ => Ok(()),
    }
}

fn put<P: DeserializeOwned>(table: &toml::Table, key: &str, value: toml::Value) -> Outcome<toml::Table> {
    let mut next = table.clone();
    next.insert(key.to_owned(), value);
    match read::<P>(next.clone()) {
        Ok(_) => Ok(next),
        Err(fault) => Err(Failure::new(format!("{key}: {fault}")).remedy("see `forebay mount add --help`")),
    }
}

fn read<P: DeserializeOwned>(table: toml::Table) -> Result<P, String> {
    P::deserialize(table).map_err(|error| error.message().replace('\n', " "))
}

/// Settings that the schema has for nodes that work together, and that one node alone cannot keep: better refused
/// than silently without effect.
///
/// # Errors
/// The first of them.
pub(crate) fn refuse_unsupported<'a>(
    policy: &Policy,
    prefixes: impl IntoIterator<Item = &'a PolicyChange>,
) -> Outcome<()> {
    let prefixed = prefixes.into_iter().map(|change| change.applied_to(policy));
    for policy in std::iter::once(policy.clone()).chain(prefixed) {
        let refused = match policy {
            Policy { placement: Placement::Striped, .. } => Some("placement = \"striped\""),
            Policy { replicas: 2.., .. } => Some("replicas above 1"),
            _ => None,
        };
        if let Some(what) = refused {
            return Err(Failure::new(format!("{what} is not supported by a node that stands alone"))
                .remedy("leave it out"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_types::{ByteSize, WriteMode};

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pairs = text.split(' ').map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn pairs_change_a_policy_and_none_takes_them_back() {
        let changes = pairs("write_mode=through quota=5GiB pin=true metadata_ttl=9s replicas=1");
        let policy = with_policy(&Policy::default(), &changes).unwrap();
        assert_eq!((policy.write_mode, policy.quota), (WriteMode::Through, Some(ByteSize::gib(5))));
        assert!(policy.pin);
        let back =
            with_policy(&policy, &pairs("quota=none pin=none write_mode=none metadata_ttl=none")).unwrap();
        assert_eq!(back, Policy::default());
        let change = with_policy(&PolicyChange::default(), &pairs("ttl=7d ttl_action=delete")).unwrap();
        assert_eq!(
            with_policy(&change, &pairs("ttl=none ttl_action=none")).unwrap(),
            PolicyChange::default()
        );
    }

    #[test]
    fn a_wrong_pair_is_named_with_what_was_expected() {
        let fault = |text: &str| with_policy(&Policy::default(), &pairs(text)).unwrap_err().to_string();
        assert!(fault("quotta=1GiB").contains("unknown field `quotta`, expected one of"));
        assert!(fault("quota=5GB").contains("write it like 512MiB or 64GiB"));
        assert!(fault("write_mode=fast").contains("expected one of `through`"));
        assert!(fault("quotta=none").contains("unknown field `quotta`"));
        assert!(fault("pin=maybe").contains("expected a boolean"));
    }

    #[test]
    fn what_one_node_cannot_keep_is_refused() {
        let refused = |text: &str| {
            let policy = with_policy(&Policy::default(), &pairs(text)).unwrap();
            refuse_unsupported(&policy, []).unwrap_err().to_string()
        };
        assert!(refused("replicas=2").contains("replicas"));
        assert!(refused("placement=striped").contains("striped"));
        let ranked = with_policy(&Policy::default(), &pairs("priority=-5")).unwrap();
        assert!(refuse_unsupported(&ranked, []).is_ok() && ranked.priority == -5);
    }
}

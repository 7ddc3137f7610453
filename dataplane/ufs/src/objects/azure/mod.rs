//! Azure Blob Storage: where the container is, and who we are to it.
//!
//! Owns the way from a URL, options and environment to a client; [`client`] speaks to the service. Credentials
//! come from the `object_store` crate: account key, shared access signature, client secret, workload and
//! managed identity, the Azure command line.
//!
//! Accounts with a hierarchical name space keep real directories, which are not understood here; use them by
//! their blob interface only if nothing else makes directories in them.

mod client;

use super::client::{ListQuery, ObjectClient};
use super::fault::Fault;
use super::settings::Settings;
use super::transport::{Transport, client_options};
use super::tree::ObjectTree;
use crate::error::{OpenError, UfsError};
use crate::options::UfsOptions;
use client::{AzureClient, Container};
use object_store::azure::{AzureConfigKey, AzureCredentialProvider, MicrosoftAzureBuilder};
use object_store::{BackoffConfig, RetryConfig};
use std::sync::Arc;

const WHERE_CREDENTIALS_ARE: &str = "credentials are taken from the options access_key or sas_token, the \
    environment (AZURE_STORAGE_ACCOUNT_KEY, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, ...), or the machine's \
    managed identity; anonymous=true asks without any";

/// Opens `az://container/prefix`.
pub(crate) async fn open(
    url: &str,
    container: &str,
    prefix: &str,
    options: &UfsOptions,
) -> Result<ObjectTree, OpenError> {
    let mut settings = Settings::new(url, &options.store);
    let account = settings.text("account").or_else(account_of_environment);
    let account = account.ok_or_else(|| {
        let reason = "it is missing: give the storage account's name here or in AZURE_STORAGE_ACCOUNT_NAME";
        settings.invalid("account", reason.into())
    })?;
    let endpoint = settings.endpoint()?;
    let endpoint = endpoint.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    let credentials = credentials(url, (&account, container), &mut settings, options)?;
    settings.finish()?;
    let transport = Transport::new(url, &client_options(options, endpoint.starts_with("http://")))?;
    let container = Container { account, url: format!("{endpoint}/{container}") };
    let client = AzureClient::new(transport, credentials, container);
    let query = ListQuery { prefix, fold: false, after: None, token: None, max: 1 };
    let limit = options.connect_timeout.saturating_mul(2);
    let reached = tokio::time::timeout(limit, client.list(query)).await;
    let reached = reached.unwrap_or_else(|_| Err(Fault::Ufs(UfsError::Timeout(format!("listing {url}")))));
    reached.map_err(|fault| fault.on_open(url, "the container", WHERE_CREDENTIALS_ARE))?;
    Ok(ObjectTree::new(url.to_owned(), prefix, Arc::new(client), options))
}

fn account_of_environment() -> Option<String> {
    std::env::var("AZURE_STORAGE_ACCOUNT_NAME").ok().filter(|name| !name.is_empty())
}

fn credentials(
    url: &str,
    (account, container): (&str, &str),
    settings: &mut Settings<'_>,
    options: &UfsOptions,
) -> Result<Option<AzureCredentialProvider>, OpenError> {
    let (key, sas) = (settings.text("access_key"), settings.text("sas_token"));
    if settings.flag("anonymous")?.unwrap_or(false) {
        return Ok(None);
    }
    // Opening waits no longer than its own deadline for an identity that may not be there.
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 2,
        retry_timeout: options.connect_timeout,
    };
    let builder = match (key, sas) {
        (Some(key), _) => MicrosoftAzureBuilder::new().with_access_key(key),
        (None, Some(sas)) => MicrosoftAzureBuilder::new().with_config(AzureConfigKey::SasKey, sas),
        (None, None) => MicrosoftAzureBuilder::from_env(),
    };
    let built = builder.with_account(account).with_container_name(container).with_retry(retry).build();
    // What failed is not told: a parser's error may quote the key.
    let built = built.map_err(|_| OpenError::Denied {
        url: url.to_owned(),
        reason: "the credentials cannot be used".into(),
        remedy: WHERE_CREDENTIALS_ARE.into(),
    })?;
    Ok(Some(Arc::clone(built.credentials())))
}

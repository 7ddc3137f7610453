//! Google Cloud Storage by its XML interface.
//!
//! Owns the way from a URL, options and environment to a client; the dialect itself is [`super::xml`]'s. A
//! version is an object's generation, so a copy with the same bytes is another version. Credentials come from
//! the `object_store` crate: service account keys, application default credentials, instance metadata.
//!
//! A multipart upload's completion takes no condition here, so puts in parts are looked at just before.

use super::client::{ClientResult, ListQuery, ObjectClient};
use super::fault::Fault;
use super::settings::Settings;
use super::transport::{Transport, client_options};
use super::tree::ObjectTree;
use super::xml::{Bucket, Dialect, Sign, XmlClient};
use crate::error::{OpenError, UfsError};
use crate::options::UfsOptions;
use async_trait::async_trait;
use http::header::{AUTHORIZATION, HeaderValue};
use object_store::client::HttpRequest;
use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder};
use object_store::{BackoffConfig, RetryConfig};
use std::sync::Arc;

const ENDPOINT: &str = "https://storage.googleapis.com";
const WHERE_CREDENTIALS_ARE: &str = "credentials are taken from the options service_account (a key file) or \
    bearer_token, the environment (GOOGLE_SERVICE_ACCOUNT, GOOGLE_APPLICATION_CREDENTIALS), \
    `gcloud auth application-default login`, or the machine's service account; anonymous=true asks without any";

/// Puts a bearer token on requests.
struct GcsSigner {
    /// `None`: requests go without.
    credentials: Option<GcpCredentialProvider>,
}

impl std::fmt::Debug for GcsSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.credentials.is_some() { "GcsSigner(..)" } else { "GcsSigner(anonymous)" })
    }
}

#[async_trait]
impl Sign for GcsSigner {
    async fn sign(&self, request: &mut HttpRequest) -> ClientResult<()> {
        let Some(provider) = &self.credentials else { return Ok(()) };
        let credential = provider.get_credential().await.map_err(|error| {
            tracing::debug!(%error, "no credentials for Google Cloud Storage");
            denied("no credentials could be obtained")
        })?;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", credential.bearer));
        let mut bearer = bearer.map_err(|_| denied("the bearer token has a character no header may hold"))?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        Ok(())
    }
}

fn denied(what: &str) -> Fault {
    let remedy = "check where the credentials should come from".to_owned();
    Fault::Ufs(UfsError::Denied { what: what.to_owned(), remedy })
}

/// Opens `gs://bucket/prefix`.
pub(crate) async fn open(
    url: &str,
    bucket: &str,
    prefix: &str,
    options: &UfsOptions,
) -> Result<ObjectTree, OpenError> {
    let mut settings = Settings::new(url, &options.store);
    let endpoint = settings.endpoint()?.unwrap_or_else(|| ENDPOINT.to_owned());
    let signer = GcsSigner { credentials: credentials(url, bucket, &mut settings, options)? };
    settings.finish()?;
    let transport = Transport::new(url, &client_options(options, endpoint.starts_with("http://")))?;
    let bucket = Bucket { name: bucket.to_owned(), url: format!("{endpoint}/{bucket}") };
    let client = XmlClient::new(Dialect::Gcs, transport, Box::new(signer), bucket, None);
    let query = ListQuery { prefix, fold: false, after: None, token: None, max: 1 };
    let limit = options.connect_timeout.saturating_mul(2);
    let reached = tokio::time::timeout(limit, client.list(query)).await;
    let reached = reached.unwrap_or_else(|_| Err(Fault::Ufs(UfsError::Timeout(format!("listing {url}")))));
    reached.map_err(|fault| fault.on_open(url, "the bucket", WHERE_CREDENTIALS_ARE))?;
    Ok(ObjectTree::new(url.to_owned(), prefix, Arc::new(client), options))
}

fn credentials(
    url: &str,
    bucket: &str,
    settings: &mut Settings<'_>,
    options: &UfsOptions,
) -> Result<Option<GcpCredentialProvider>, OpenError> {
    let (file, key) = (settings.text("service_account"), settings.text("service_account_key"));
    let token = settings.text("bearer_token");
    if settings.flag("anonymous")?.unwrap_or(false) {
        return Ok(None);
    }
    // Opening waits no longer than its own deadline for a service account that may not be there.
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 2,
        retry_timeout: options.connect_timeout,
    };
    let builder = match (file, key, token) {
        (None, None, None) => GoogleCloudStorageBuilder::from_env(),
        (Some(file), _, _) => GoogleCloudStorageBuilder::new().with_service_account_path(file),
        (None, Some(key), _) => GoogleCloudStorageBuilder::new().with_service_account_key(key),
        (None, None, Some(token)) => GoogleCloudStorageBuilder::new().with_bearer_token(token),
    };
    let built = builder.with_bucket_name(bucket).with_retry(retry).build();
    // What failed is not told: a parser's error may quote the key.
    let built = built.map_err(|_| OpenError::Denied {
        url: url.to_owned(),
        reason: "the credentials cannot be used".into(),
        remedy: WHERE_CREDENTIALS_ARE.into(),
    })?;
    Ok(Some(Arc::clone(built.credentials())))
}

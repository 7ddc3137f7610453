//! S3 and stores compatible with it: where the bucket is, and who we are to it.
//!
//! Owns the way from a URL, options, environment and profile files to a client. The dialect itself is
//! [`super::xml`]'s. Credentials that have to be fetched and renewed (web identity, container and instance
//! metadata) come from the `object_store` crate, as does the signature (AWS Signature Version 4).

mod config;
mod profile;

use super::client::{ClientResult, ListQuery, ObjectClient};
use super::fault::Fault;
use super::transport::{Transport, client_options};
use super::tree::ObjectTree;
use super::xml::{Bucket, Dialect, Sign, XmlClient};
use crate::error::{OpenError, UfsError};
use crate::options::UfsOptions;
use async_trait::async_trait;
use config::{Config, Credentials};
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential, AwsCredentialProvider};
use object_store::client::HttpRequest;
use object_store::{BackoffConfig, RetryConfig, StaticCredentialProvider};
use std::sync::Arc;

const WHERE_CREDENTIALS_ARE: &str = "credentials are taken from the options access_key_id and secret_access_key, \
    the environment (AWS_ACCESS_KEY_ID, ...), the profile files in ~/.aws, or the machine's role; \
    anonymous=true asks without any";

/// Signs requests to S3.
#[derive(Debug)]
struct S3Signer {
    /// `None`: requests go unsigned.
    credentials: Option<AwsCredentialProvider>,
    region: String,
    sign_payload: bool,
}

#[async_trait]
impl Sign for S3Signer {
    async fn sign(&self, request: &mut HttpRequest) -> ClientResult<()> {
        let Some(provider) = &self.credentials else { return Ok(()) };
        let credential = provider.get_credential().await.map_err(|error| no_credential(&error))?;
        let authorizer =
            AwsAuthorizer::new(&credential, "s3", &self.region).with_sign_payload(self.sign_payload);
        let signed = authorizer.try_authorize(request, None);
        signed.map_err(|error| Fault::Ufs(UfsError::Io(format!("signing a request: {error}"))))
    }
}

fn no_credential(error: &object_store::Error) -> Fault {
    tracing::debug!(%error, "no credentials for S3");
    let what = "no credentials could be obtained".to_owned();
    Fault::Ufs(UfsError::Denied { what, remedy: "check where they should come from".into() })
}

/// Opens `s3://bucket/prefix`.
pub(crate) async fn open(
    url: &str,
    bucket: &str,
    prefix: &str,
    options: &UfsOptions,
) -> Result<ObjectTree, OpenError> {
    let environment = |name: &str| std::env::var(name).ok();
    let mut config = Config::resolve(url, bucket, &options.store, &environment)?;
    let mut client = connect(url, &config, options)?;
    let mut reached = probe(url, &client, prefix, options).await;
    if let Err(Fault::WrongRegion(region)) = &reached
        && !config.region_is_given
    {
        config.region.clone_from(region);
        client = connect(url, &config, options)?;
        reached = probe(url, &client, prefix, options).await;
    }
    reached.map_err(|fault| fault.on_open(url, "the bucket", WHERE_CREDENTIALS_ARE))?;
    Ok(ObjectTree::new(url.to_owned(), prefix, Arc::new(client), options))
}

fn connect(url: &str, config: &Config, options: &UfsOptions) -> Result<XmlClient, OpenError> {
    let http = client_options(options, config.plain_http());
    let signer = S3Signer {
        credentials: provider(url, config, options)?,
        region: config.region.clone(),
        sign_payload: config.sign_payload,
    };
    let dialect = Dialect::S3 { atomic: config.atomic };
    let bucket = Bucket { name: config.bucket.clone(), url: config.bucket_url() };
    let transport = Transport::new(url, &http)?;
    Ok(XmlClient::new(dialect, transport, Box::new(signer), bucket, config.keeps_conditions))
}

fn provider(
    url: &str,
    config: &Config,
    options: &UfsOptions,
) -> Result<Option<AwsCredentialProvider>, OpenError> {
    match &config.credentials {
        Credentials::Anonymous => Ok(None),
        Credentials::Static { key_id, secret_key, token } => {
            let (key_id, secret_key, token) = (key_id.clone(), secret_key.clone(), token.clone());
            let credential = AwsCredential { key_id, secret_key, token };
            Ok(Some(Arc::new(StaticCredentialProvider::new(credential))))
        }
        Credentials::FromMachine => {
            // Opening waits no longer than its own deadline for a role that may not be there.
            let retry = RetryConfig {
                backoff: BackoffConfig::default(),
                max_retries: 2,
                retry_timeout: options.connect_timeout,
            };
            let builder = AmazonS3Builder::from_env()
                .with_bucket_name(&config.bucket)
                .with_region(&config.region)
                .with_retry(retry);
            let built = builder.build().map_err(|error| OpenError::Denied {
                url: url.to_owned(),
                reason: error.to_string(),
                remedy: WHERE_CREDENTIALS_ARE.into(),
            })?;
            Ok(Some(Arc::clone(built.credentials())))
        }
    }
}

/// Asks the store for one key, to see that it is there and knows us.
async fn probe(url: &str, client: &XmlClient, prefix: &str, options: &UfsOptions) -> Result<(), Fault> {
    let query = ListQuery { prefix, fold: false, after: None, token: None, max: 1 };
    // A connection has its own deadline; an answer may take as long again.
    let limit = options.connect_timeout.saturating_mul(2);
    match tokio::time::timeout(limit, client.list(query)).await {
        Ok(listed) => listed.map(drop),
        Err(_) => Err(Fault::Ufs(UfsError::Timeout(format!("listing {url}")))),
    }
}

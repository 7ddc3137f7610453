//! The port: HTTP/1.1, `GET /metrics` and nothing else.

use super::Sources;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Scrapes at a time; more wait in the socket's own queue.
const SCRAPES_MAX: usize = 8;
/// How long a client may take with a request and its answer.
const CLIENT_WITHIN: Duration = Duration::from_secs(10);
/// A pause after an accept that failed, so that a lack of descriptors is no busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What the OpenMetrics specification, version 1.0, names its text format.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves the metrics until it is dropped.
#[derive(Debug)]
pub(crate) struct MetricsServer {
    listens: JoinHandle<()>,
}

impl MetricsServer {
    /// Takes the port. Must run on a tokio runtime.
    ///
    /// # Errors
    /// The port cannot be had.
    pub(crate) async fn start(address: SocketAddr, sources: Sources) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self { listens: tokio::spawn(listen(listener, Arc::new(sources))) })
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        self.listens.abort();
    }
}

async fn listen(listener: TcpListener, sources: Arc<Sources>) {
    let places = Arc::new(Semaphore::new(SCRAPES_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let sources = Arc::clone(&sources);
                tokio::spawn(async move {
                    serve(stream, sources).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics port takes no connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, sources: Arc<Sources>) {
    let service = service_fn(move |request| {
        let response = answer(&request, &sources);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    let http = http.timer(TokioTimer::new()).header_read_timeout(CLIENT_WITHIN).keep_alive(false);
    match tokio::time::timeout(CLIENT_WITHIN, http.serve_connection(TokioIo::new(stream), service)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a scrape broke off"),
        Err(_) => tracing::debug!("a scrape took too long"),
    }
}

fn answer(request: &Request<Incoming>, sources: &Sources) -> Response<String> {
    let asked = (request.method(), request.uri().path());
    if asked != (&Method::GET, "/metrics") {
        return plain(StatusCode::NOT_FOUND, "GET /metrics\n".to_owned());
    }
    match sources.render() {
        Ok(page) => {
            let mut response = plain(StatusCode::OK, page);
            response
                .headers_mut()
                .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(CONTENT_TYPE));
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn plain(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

//! A stand-in for Google Cloud Storage: the part of its XML interface that the adapter uses, in memory.
//!
//! Written from the reference of the "Cloud Storage XML API", not from what the real service was seen to do:
//! no real bucket was tried. It answers one request a connection.

use super::wire::{head_len, read_request};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub(crate) const TOKEN: &str = "a-bearer-token";
const DATE: &str = "Sat, 21 Nov 2026 00:00:00 GMT";
const LISTED_DATE: &str = "2026-11-21T00:00:00.000Z";

#[derive(Clone)]
struct Object {
    body: Vec<u8>,
    meta: Vec<(String, String)>,
    generation: u64,
}

#[derive(Default)]
struct Upload {
    key: String,
    meta: Vec<(String, String)>,
    parts: BTreeMap<u32, Vec<u8>>,
}

/// A bucket in memory. Any bucket's name names it, but `missing`.
#[derive(Default)]
struct Bucket {
    objects: BTreeMap<String, Object>,
    uploads: HashMap<String, Upload>,
    last: u64,
}

struct Request {
    method: String,
    key: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Starts the stand-in; it ends with the process. Returns its port.
pub(crate) fn serve() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let bucket = Arc::new(Mutex::new(Bucket::default()));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let bucket = Arc::clone(&bucket);
            std::thread::spawn(move || serve_one(client, &bucket).ok());
        }
    });
    port
}

fn serve_one(mut client: TcpStream, bucket: &Mutex<Bucket>) -> std::io::Result<()> {
    let raw = read_request(&mut client)?;
    let request = parse(&raw);
    let answer = if request.headers.get("authorization") != Some(&format!("Bearer {TOKEN}")) {
        error(401, "AuthenticationRequired")
    } else if request.key.starts_with("missing/") {
        error(404, "NoSuchBucket")
    } else {
        bucket.lock().unwrap().answer(&request)
    };
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    if !answer.headers.iter().any(|(name, _)| name == "Content-Length") {
        let _ = write!(head, "Content-Length: {}\r\n", answer.body.len());
    }
    client.write_all(head.as_bytes())?;
    client.write_all(b"\r\n")?;
    if request.method == "HEAD" { Ok(()) } else { client.write_all(&answer.body) }
}

fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8().unwrap().into_owned()
}

fn parse(raw: &[u8]) -> Request {
    let head = head_len(raw).unwrap();
    let text = std::str::from_utf8(&raw[..head]).unwrap();
    let mut lines = text.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let query =
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v)));
    let headers = lines.filter_map(|line| line.split_once(':'));
    Request {
        method,
        // The bucket's name and the key.
        key: decode(path.strip_prefix('/').unwrap()),
        query: query.collect(),
        headers: headers.map(|(k, v)| (k.to_ascii_lowercase(), v.trim().to_owned())).collect(),
        body: raw[head..].to_vec(),
    }
}

fn error(status: u16, code: &str) -> Answer {
    let body = format!("<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>");
    Answer { status, headers: Vec::new(), body: body.into_bytes() }
}

fn xml(body: String) -> Answer {
    Answer { status: 200, headers: Vec::new(), body: body.into_bytes() }
}

fn meta_of(request: &Request) -> Vec<(String, String)> {
    let ours = request.headers.iter().filter(|(name, _)| name.starts_with("x-goog-meta-"));
    ours.map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl Bucket {
    fn answer(&mut self, request: &Request) -> Answer {
        let key = request.key.split_once('/').unwrap().1.to_owned();
        let upload = request.query.get("uploadId");
        match (&*request.method, upload) {
            ("GET", None) if key.is_empty() => self.list(request),
            ("HEAD" | "GET", None) => self.get(request, &key),
            ("PUT", None) => self.put(request, &key),
            ("DELETE", None) => self.delete(request, &key),
            ("POST", None) => self.begin(request, key),
            ("PUT", Some(upload)) => self.part(request, upload),
            ("POST", Some(upload)) => self.complete(upload),
            ("DELETE", Some(upload)) => match self.uploads.remove(upload) {
                Some(_) => Answer { status: 204, headers: Vec::new(), body: Vec::new() },
                None => error(404, "NoSuchUpload"),
            },
            _ => error(405, "MethodNotAllowed"),
        }
    }

    /// Whether the generation at the key is the one that the header names; 0 means none.
    fn matches(&self, request: &Request, header: &str, key: &str) -> bool {
        let Some(expected) = request.headers.get(header) else { return true };
        let found = self.objects.get(key).map_or(0, |object| object.generation);
        expected.parse() == Ok(found)
    }

    fn store(&mut self, key: &str, body: Vec<u8>, meta: Vec<(String, String)>) -> u64 {
        self.last += 1;
        // Generations of the service are microseconds since 1970: long numbers.
        let generation = 1_700_000_000_000_000 + self.last;
        self.objects.insert(key.to_owned(), Object { body, meta, generation });
        generation
    }

    fn get(&self, request: &Request, key: &str) -> Answer {
        let Some(object) = self.objects.get(key) else { return error(404, "NoSuchKey") };
        if !self.matches(request, "x-goog-if-generation-match", key) {
            return error(412, "PreconditionFailed");
        }
        let mut headers = object.meta.clone();
        headers.push(("x-goog-generation".into(), object.generation.to_string()));
        headers.push(("Last-Modified".into(), DATE.into()));
        let len = object.body.len();
        let Some(range) = request.headers.get("range") else {
            headers.push(("Content-Length".into(), len.to_string()));
            return Answer { status: 200, headers, body: object.body.clone() };
        };
        let (first, last) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
        let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
        if first >= len {
            return error(416, "InvalidRange");
        }
        let end = len.min(last + 1);
        headers.push(("Content-Range".into(), format!("bytes {first}-{}/{len}", end - 1)));
        Answer { status: 206, headers, body: object.body[first..end].to_vec() }
    }

    fn put(&mut self, request: &Request, key: &str) -> Answer {
        if key.len() > 1024 {
            return error(400, "KeyTooLongError");
        }
        if !self.matches(request, "x-goog-if-generation-match", key) {
            return error(412, "PreconditionFailed");
        }
        let Some(source) = request.headers.get("x-goog-copy-source") else {
            let generation = self.store(key, request.body.clone(), meta_of(request));
            return with_generation(generation, String::new());
        };
        let source = decode(source.strip_prefix('/').unwrap().split_once('/').unwrap().1);
        let Some(object) = self.objects.get(&source).cloned() else { return error(404, "NoSuchKey") };
        if !self.matches(request, "x-goog-copy-source-if-generation-match", &source) {
            return error(412, "PreconditionFailed");
        }
        let generation = self.store(key, object.body, object.meta);
        with_generation(generation, "<CopyObjectResult><ETag>\"x\"</ETag></CopyObjectResult>".into())
    }

    fn delete(&mut self, request: &Request, key: &str) -> Answer {
        if !self.objects.contains_key(key) {
            return error(404, "NoSuchKey");
        }
        if !self.matches(request, "x-goog-if-generation-match", key) {
            return error(412, "PreconditionFailed");
        }
        self.objects.remove(key);
        Answer { status: 204, headers: Vec::new(), body: Vec::new() }
    }

    fn list(&self, request: &Request) -> Answer {
        let query = |name: &str| request.query.get(name).map_or("", String::as_str);
        let (prefix, after) = (query("prefix"), query("continuation-token"));
        let max: usize = query("max-keys").parse().unwrap();
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (mut entries, mut seen, mut next) = (String::new(), Vec::<String>::new(), None);
        for (key, object) in self.objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
            let slash = key[prefix.len()..].find('/').filter(|_| query("delimiter") == "/");
            let folded = slash.map_or(key.clone(), |at| key[..=prefix.len() + at].to_owned());
            if *folded <= *after || seen.last() == Some(&folded) {
                continue;
            }
            if seen.len() == max {
                next = seen.last().cloned();
                break;
            }
            let _ = match slash.is_none() {
                false => {
                    write!(entries, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", encode(&folded))
                }
                true => write!(
                    entries,
                    "<Contents><Key>{}</Key><Generation>{}</Generation><Size>{}</Size><ETag>\"x\"</ETag>\
                     <LastModified>{LISTED_DATE}</LastModified></Contents>",
                    encode(key),
                    object.generation,
                    object.body.len()
                ),
            };
            seen.push(folded);
        }
        let next = match next {
            Some(token) => format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>",
                token.replace('&', "&amp;").replace('<', "&lt;")
            ),
            None => "<IsTruncated>false</IsTruncated>".to_owned(),
        };
        xml(format!("<ListBucketResult><EncodingType>url</EncodingType>{next}{entries}</ListBucketResult>"))
    }

    fn begin(&mut self, request: &Request, key: String) -> Answer {
        self.last += 1;
        let name = format!("upload/{}+=", self.last);
        let document = format!(
            "<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>"
        );
        self.uploads.insert(name, Upload { key, meta: meta_of(request), parts: BTreeMap::new() });
        xml(document)
    }

    fn part(&mut self, request: &Request, upload: &str) -> Answer {
        let Some(upload) = self.uploads.get_mut(upload) else { return error(404, "NoSuchUpload") };
        let number: u32 = request.query["partNumber"].parse().unwrap();
        upload.parts.insert(number, request.body.clone());
        let headers = vec![("ETag".to_owned(), format!("\"part-{number}\""))];
        Answer { status: 200, headers, body: Vec::new() }
    }

    fn complete(&mut self, upload: &str) -> Answer {
        let Some(upload) = self.uploads.remove(upload) else { return error(404, "NoSuchUpload") };
        let body = upload.parts.into_values().flatten().collect();
        let generation = self.store(&upload.key, body, upload.meta);
        with_generation(
            generation,
            "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>".into(),
        )
    }
}

fn with_generation(generation: u64, body: String) -> Answer {
    let headers = vec![("x-goog-generation".to_owned(), generation.to_string())];
    Answer { status: 200, headers, body: body.into_bytes() }
}

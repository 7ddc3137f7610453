//! A proxy between a client and a server that loses, cuts and makes up answers, on the wire itself.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What happens to an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accident {
    /// The request takes effect, the answer never comes.
    Lost,
    /// The answer ends in the middle of its body.
    Cut,
    /// The request does not reach the server; the answer is this status.
    Refused(u16),
    /// The request does not reach the server, and nothing comes.
    Silent,
    /// The answer stops in the middle of its body, and the connection stays.
    Stalled,
    /// The answer is of another version.
    Retagged,
    /// The server is not told what the client expects to be there.
    Unconditional,
}

#[derive(Debug, Default)]
struct Plan {
    /// What a request's first line holds, how often, and what happens.
    accidents: Vec<(&'static str, u32, Accident)>,
    /// Each request whose first line holds this has one of these, and none when it is made again.
    once_each: Option<(&'static str, &'static [Accident])>,
    /// The first lines of those that had theirs.
    had: HashSet<String>,
    struck: u32,
    /// The methods of all requests since they were last taken.
    methods: Vec<String>,
}

/// A proxy on a port of its own.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) port: u16,
    plan: Arc<Mutex<Plan>>,
}

impl Wire {
    /// A proxy to the server at `upstream`.
    pub(crate) fn to(upstream: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let wire = Self { port: listener.local_addr().unwrap().port(), plan };
        let serving = wire.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let wire = serving.clone();
                // A client that goes away in the middle is what the tests are about.
                std::thread::spawn(move || wire.serve(client, upstream).ok());
            }
        });
        wire
    }

    /// Lets the next `times` requests whose first line holds `line` have an accident.
    pub(crate) fn next(&self, times: u32, line: &'static str, accident: Accident) {
        self.plan.lock().unwrap().accidents.push((line, times, accident));
    }

    /// Lets each request whose first line holds `line` have one of these accidents, and none when it is made again.
    pub(crate) fn once_each(&self, line: &'static str, accidents: &'static [Accident]) {
        self.plan.lock().unwrap().once_each = Some((line, accidents));
    }

    /// How many requests had one.
    pub(crate) fn struck(&self) -> u32 {
        self.plan.lock().unwrap().struck
    }

    /// The methods of the requests since the last call, sorted.
    pub(crate) fn methods(&self) -> Vec<String> {
        let mut methods = std::mem::take(&mut self.plan.lock().unwrap().methods);
        methods.sort();
        methods
    }

    fn accident(&self, first_line: &str) -> Option<Accident> {
        let mut plan = self.plan.lock().unwrap();
        plan.methods.push(first_line.split(' ').next().unwrap_or_default().to_owned());
        let due = |(line, times, _): &&mut (&str, u32, Accident)| *times > 0 && first_line.contains(*line);
        let accident = plan.accidents.iter_mut().find(due).map(|found| {
            found.1 -= 1;
            found.2
        });
        let accident = accident.or_else(|| plan.first_time(first_line));
        plan.struck += u32::from(accident.is_some());
        accident
    }

    /// Serves one request of a connection, and ends it.
    fn serve(&self, mut client: TcpStream, upstream: u16) -> std::io::Result<()> {
        let request = read_request(&mut client)?;
        let first_line = String::from_utf8_lossy(request.split(|b| *b == b'\r').next().unwrap()).into_owned();
        let accident = self.accident(&first_line);
        if let Some(Accident::Refused(status)) = accident {
            return write!(client, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        if accident == Some(Accident::Silent) {
            return wait_for_the_end(client);
        }
        let mut server = TcpStream::connect(("127.0.0.1", upstream))?;
        server.write_all(&match accident {
            Some(Accident::Unconditional) => without_conditions(&request),
            _ => request,
        })?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        match accident {
            Some(Accident::Lost) => client.shutdown(Shutdown::Both),
            Some(Accident::Stalled) => {
                let body = head_len(&answer).unwrap();
                client.write_all(&answer[..body + (answer.len() - body) / 2])?;
                wait_for_the_end(client)
            }
            Some(Accident::Retagged) => client.write_all(&retagged(&answer)),
            Some(Accident::Cut) => {
                let body = head_len(&answer).unwrap();
                client.write_all(&answer[..body + (answer.len() - body) / 2])?;
                client.shutdown(Shutdown::Both)
            }
            _ => client.write_all(&answer),
        }
    }
}

impl Plan {
    fn first_time(&mut self, first_line: &str) -> Option<Accident> {
        let (_, accidents) = self.once_each.filter(|(line, _)| first_line.contains(line))?;
        self.had.insert(first_line.to_owned()).then(|| accidents[self.had.len() % accidents.len()])
    }
}

/// Says nothing until the client gives up.
fn wait_for_the_end(mut client: TcpStream) -> std::io::Result<()> {
    client.read(&mut [0]).map(drop)
}

/// The answer with the first four characters of its entity tag changed.
fn retagged(answer: &[u8]) -> Vec<u8> {
    let head = head_len(answer).unwrap();
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let at = text.find("etag: \"").unwrap() + "etag: \"".len();
    let mut answer = answer.to_vec();
    answer[at..at + 4].copy_from_slice(b"0000");
    answer
}

/// The request without the headers that say what is expected.
fn without_conditions(request: &[u8]) -> Vec<u8> {
    let (head, body) = request.split_at(head_len(request).unwrap());
    let head = String::from_utf8(head.to_vec()).unwrap();
    let kept = head.split_inclusive("\r\n").filter(|line| !line.starts_with("if-"));
    [kept.collect::<String>().as_bytes(), body].concat()
}

pub(super) fn head_len(message: &[u8]) -> Option<usize> {
    message.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads a request whole, and asks the server to end the connection after its answer.
pub(super) fn read_request(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut request = Vec::new();
    let mut chunk = [0; 64 << 10];
    let head = loop {
        if let Some(head) = head_len(&request) {
            break head;
        }
        let len = client.read(&mut chunk)?;
        if len == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&chunk[..len]);
    };
    let text = String::from_utf8_lossy(&request[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body = length.map_or(0, |len| len.trim().parse::<usize>().unwrap());
    while request.len() < head + body {
        let len = client.read(&mut chunk)?;
        if len == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&chunk[..len]);
    }
    request.splice(head - 2..head - 2, *b"Connection: close\r\n");
    Ok(request)
}

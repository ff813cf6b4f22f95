//! Just enough of HTTP/1.1 for what stands in for AWS here: a thread a connection, and nothing that the functions would
//! be compiled differently for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// A request.
pub struct Request {
    pub method: String,
    pub path: String,
    /// By name in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// An answer.
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// 200 with a body of this type.
    pub fn ok(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: vec![("content-type", content_type.to_owned())], body: body.into() }
    }
}

/// Serves until the program ends.
pub fn serve(answer: impl Fn(Request) -> Response + Send + Sync + 'static) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || connection(stream, &*answer));
        }
    });
    Ok(address)
}

/// Answers one after another, until the other side hangs up.
fn connection(stream: TcpStream, answer: &dyn Fn(Request) -> Response) {
    let Ok(mut out) = stream.try_clone() else { return };
    let _ = stream.set_nodelay(true);
    let mut input = BufReader::new(stream);
    while let Ok(Some(request)) = read(&mut input) {
        let Response { status, headers, body } = answer(request);
        let mut bytes = format!("HTTP/1.1 {status} .\r\ncontent-length: {}\r\n", body.len());
        headers.iter().for_each(|(name, value)| bytes += &format!("{name}: {value}\r\n"));
        bytes += "\r\n";
        let bytes = [bytes.as_bytes(), &body].concat();
        if out.write_all(&bytes).is_err() {
            return;
        }
    }
}

fn line(input: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}

fn read(input: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let first = line(input)?;
    let mut words = first.split(' ').map(ToOwned::to_owned);
    let (Some(method), Some(path)) = (words.next().filter(|word| !word.is_empty()), words.next()) else {
        return Ok(None);
    };
    let mut headers = BTreeMap::new();
    loop {
        let line = line(input)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let body = match headers.get("content-length").and_then(|length| length.parse().ok()) {
        Some(length) => exactly(input, length)?,
        None if headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked") => chunks(input)?,
        None => Vec::new(),
    };
    Ok(Some(Request { method, path, headers, body }))
}

fn exactly(input: &mut impl BufRead, length: usize) -> std::io::Result<Vec<u8>> {
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Ok(body)
}

fn chunks(input: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(input)?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).unwrap_or_default();
        body.extend(exactly(input, size)?);
        // the end of the chunk, or the empty line after the last one (no trailers are sent here)
        line(input)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

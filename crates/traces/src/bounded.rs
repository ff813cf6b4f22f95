//! Lines of text in bounded memory.

use std::io::{self, BufRead, ErrorKind, Read};

use crate::limits::LINE_BYTES_MAX;

/// The next line, without its end.
pub(crate) struct Line {
    /// From 1.
    pub no: u64,
    /// What it says; of an overlong one, the beginning.
    pub text: String,
    /// Whether it is longer than [`LINE_BYTES_MAX`].
    pub is_too_long: bool,
}

/// The lines of `reader`. Bytes that are not UTF-8 become replacement characters: old logs have names in Latin-1.
pub(crate) struct Lines<R> {
    reader: R,
    no: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, no: 0 }
    }

    fn next_line(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 1;
        if self.reader.by_ref().take(limit).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.no += 1;
        let is_too_long = bytes.len() > LINE_BYTES_MAX && bytes.last() != Some(&b'\n');
        if is_too_long {
            self.reader.skip_until(b'\n')?;
        }
        let text = String::from_utf8_lossy(&bytes);
        let start = if self.no == 1 { text.trim_start_matches('\u{feff}') } else { &text };
        Ok(Some(Line { no: self.no, text: start.trim_end_matches(['\n', '\r']).to_owned(), is_too_long }))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_line().transpose()
    }
}

/// A reader that gives out only so many bytes until it is granted more. It bounds the memory of a parser that gathers a
/// whole record before it looks at it.
pub(crate) struct Granted<'a, R> {
    inner: R,
    left: &'a std::cell::Cell<usize>,
}

impl<'a, R: Read> Granted<'a, R> {
    pub fn new(inner: R, left: &'a std::cell::Cell<usize>) -> Self {
        Self { inner, left }
    }
}

impl<R: Read> Read for Granted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left.get());
        if most == 0 && !buffer.is_empty() {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "the record is too long"));
        }
        let n = self.inner.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - n);
        Ok(n)
    }
}

//! The head of an answer.

/// Longest head of an answer.
pub const REPLY_MAX: usize = 1536;

/// A head that is being written.
pub struct Reply {
    bytes: [u8; REPLY_MAX],
    len: usize,
}

/// What a status means, in words.
#[must_use]
pub const fn reason(status: u16) -> &'static [u8] {
    match status {
        200 => b"OK",
        206 => b"Partial Content",
        301 => b"Moved Permanently",
        304 => b"Not Modified",
        400 => b"Bad Request",
        403 => b"Forbidden",
        404 => b"Not Found",
        405 => b"Method Not Allowed",
        408 => b"Request Timeout",
        413 => b"Content Too Large",
        414 => b"URI Too Long",
        416 => b"Range Not Satisfiable",
        417 => b"Expectation Failed",
        431 => b"Request Header Fields Too Large",
        501 => b"Not Implemented",
        503 => b"Service Unavailable",
        505 => b"HTTP Version Not Supported",
        _ => b"Internal Server Error",
    }
}

impl Reply {
    /// The head of an answer with this status.
    #[must_use]
    pub fn new(status: u16) -> Reply {
        let mut reply = Reply { bytes: [0; REPLY_MAX], len: 0 };
        reply.text(b"HTTP/1.1 ").number(status.into()).text(b" ").text(reason(status));
        reply.text(b"\r\nServer: gpunet\r\n");
        reply
    }

    /// What has been written.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends text; what is too long is cut, which no answer of ours is.
    pub fn text(&mut self, text: &[u8]) -> &mut Reply {
        let n = text.len().min(REPLY_MAX - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&text[..n]);
        self.len += n;
        self
    }

    /// Appends a number.
    pub fn number(&mut self, mut n: u64) -> &mut Reply {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return self.text(&digits[at..]);
            }
        }
    }

    /// Appends a path, percent-encoded.
    pub fn path(&mut self, path: &[u8]) -> &mut Reply {
        for byte in path {
            match *byte {
                b'/' | b'-' | b'.' | b'_' | b'~' => self.text(&[*byte]),
                b if b.is_ascii_alphanumeric() => self.text(&[b]),
                b => {
                    let hex = b"0123456789ABCDEF";
                    self.text(&[b'%', hex[usize::from(b >> 4)], hex[usize::from(b & 15)]])
                }
            };
        }
        self
    }
}

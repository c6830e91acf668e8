//! Appending JSON to a buffer, piece by piece.

use crate::id::ClientId;
use crate::time::write_rfc3339_ms;

/// Appends `text` as a JSON string.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut clean = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        if !needs_escape(byte) {
            continue;
        }
        out.extend_from_slice(&bytes[clean..index]);
        clean = index + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[clean..]);
    out.push(b'"');
}

/// RFC 8259 section 7: quotation mark, reverse solidus and the control characters.
fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Appends `value` in decimal.
pub(super) fn integer(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// Appends `true` or `false`.
pub(super) fn boolean(value: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// Appends an instant as a JSON string.
pub(super) fn instant(unix_ms: u64, out: &mut Vec<u8>) {
    out.push(b'"');
    write_rfc3339_ms(unix_ms, out);
    out.push(b'"');
}

/// Appends a client id as a JSON string; it has nothing to escape.
pub(super) fn client(client: ClientId, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(&client.text());
    out.push(b'"');
}

/// An object of which nothing or something has been written: it knows where a comma is due.
pub(super) struct ObjectWriter<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> ObjectWriter<'o> {
    /// Opens the object.
    pub(super) fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Writes the name of the next member, and gives where its value goes.
    ///
    /// `name` is one of ours and has nothing to escape.
    pub(super) fn member(&mut self, name: &'static str) -> &mut Vec<u8> {
        self.out.extend_from_slice(if self.empty { b"\"" } else { b",\"" });
        self.empty = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A member that is a string.
    pub(super) fn string(&mut self, name: &'static str, text: &str) {
        string(text, self.member(name));
    }

    /// A member that is a string, if there is one.
    pub(super) fn optional_string(&mut self, name: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.string(name, text);
        }
    }

    /// A member that is an integer.
    pub(super) fn integer(&mut self, name: &'static str, value: impl Into<u64>) {
        integer(value.into(), self.member(name));
    }

    /// A member that is an integer, if there is one.
    pub(super) fn optional_integer(&mut self, name: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.integer(name, value);
        }
    }

    /// A member that is `true` or `false`.
    pub(super) fn boolean(&mut self, name: &'static str, value: bool) {
        boolean(value, self.member(name));
    }

    /// A member that is an instant, if there is one; `unix_ms` is milliseconds since 1970.
    pub(super) fn optional_instant(&mut self, name: &'static str, unix_ms: Option<u64>) {
        if let Some(unix_ms) = unix_ms {
            instant(unix_ms, self.member(name));
        }
    }

    /// A member that is JSON already, if there is one.
    pub(super) fn optional_raw(&mut self, name: &'static str, json: Option<&str>) {
        if let Some(json) = json {
            self.member(name).extend_from_slice(json.as_bytes());
        }
    }

    /// Closes the object.
    pub(super) fn close(self) {
        self.out.push(b'}');
    }
}

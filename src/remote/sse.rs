//! Server-sent events out of bytes that come in any pieces.

/// Bytes of one event, or of what has come of it. Default of every stream: 1 MiB.
pub(super) const EVENT_BYTES_MAX: usize = 1 << 20;

/// What is wrong with a stream of events.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// An event has more than [`EVENT_BYTES_MAX`].
    TooLarge,
    /// A line is not UTF-8.
    NotUtf8,
}

/// Takes bytes and gives the data of whole events. Names, ids and comments are skipped; lines end with a line feed,
/// with a carriage return before it or not.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// What has come and was not read.
    bytes: Vec<u8>,
    /// How many of them were searched for the end of a line.
    num_searched: usize,
    /// The lines of data of the event under way.
    data: Option<String>,
}

impl Events {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The data of the next whole event.
    pub(super) fn next(&mut self) -> Result<Option<String>, Fault> {
        while let Some(line) = self.line()? {
            if line.is_empty() {
                if let Some(data) = self.data.take() {
                    return Ok(Some(data));
                }
                continue;
            }
            let Some(value) = line.strip_prefix("data:") else { continue };
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) if data.len() + value.len() >= EVENT_BYTES_MAX => return Err(Fault::TooLarge),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
        }
        Ok(None)
    }

    /// The next whole line, without its end.
    fn line(&mut self) -> Result<Option<String>, Fault> {
        let Some(end) = self.bytes[self.num_searched..].iter().position(|&byte| byte == b'\n') else {
            self.num_searched = self.bytes.len();
            return if self.bytes.len() > EVENT_BYTES_MAX { Err(Fault::TooLarge) } else { Ok(None) };
        };
        let end = self.num_searched + end;
        if end > EVENT_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        self.num_searched = 0;
        let mut line: Vec<u8> = self.bytes.drain(..=end).collect();
        line.pop();
        line.pop_if(|byte| *byte == b'\r');
        String::from_utf8(line).map(Some).map_err(|_| Fault::NotUtf8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, Fault> {
        let mut events = Events::default();
        let mut found = Vec::new();
        for piece in pieces {
            events.push(piece);
            while let Some(data) = events.next()? {
                found.push(data);
            }
        }
        Ok(found)
    }

    #[test]
    fn events_are_the_same_however_they_are_split() {
        let stream = ": hello\r\n\r\nevent: x\ndata: {\"a\": \"é🦀\"}\n\ndata:one\r\ndata: two\r\n\r\ndata: [DONE]\n\n";
        let expected = ["{\"a\": \"é🦀\"}", "one\ntwo", "[DONE]"];
        assert_eq!(read(&[stream.as_bytes()]), Ok(expected.map(String::from).to_vec()));
        for at in 0..stream.len() {
            let (one, other) = stream.as_bytes().split_at(at);
            assert_eq!(read(&[one, other]), Ok(expected.map(String::from).to_vec()), "split at {at}");
        }
        let bytes: Vec<&[u8]> = stream.as_bytes().chunks(1).collect();
        assert_eq!(read(&bytes), Ok(expected.map(String::from).to_vec()));
    }

    #[test]
    fn an_event_that_has_not_ended_is_none() {
        assert_eq!(read(&[b"data: half\n"]), Ok(Vec::new()));
        assert_eq!(read(&[b"data: half"]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_too_large_or_no_text_is_refused() {
        let long = vec![b'x'; EVENT_BYTES_MAX + 1];
        assert_eq!(read(&[b"data: ", &long]), Err(Fault::TooLarge));
        let line = [b"data: ".as_slice(), &long[..EVENT_BYTES_MAX / 2], b"\n"].concat();
        assert_eq!(read(&[&line, &line, &line]), Err(Fault::TooLarge));
        assert_eq!(read(&[b"data: \xff\n\n"]), Err(Fault::NotUtf8));
    }
}

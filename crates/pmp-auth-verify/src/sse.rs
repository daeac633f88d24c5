//! Server-sent events (WHATWG HTML §9.2.6). Time and memory grow with the bytes, however they are cut.

/// What a stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Comment,
    Retry(u64),
    Event { name: String, data: String, id: Option<String> },
}

/// Reads a stream piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    after_return: bool,
    name: String,
    data: Option<String>,
    id: Option<String>,
}

impl Parser {
    /// Takes the next bytes; gives what they complete, or none when a line or an event is longer
    /// than `most`.
    pub(crate) fn push(&mut self, bytes: &[u8], most: usize) -> Option<Vec<Said>> {
        let mut said = Vec::new();
        for piece in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            // The second half of a line's end, perhaps of another chunk.
            let piece = match piece {
                [b'\n'] if self.after_return => {
                    self.after_return = false;
                    continue;
                }
                _ => piece,
            };
            self.after_return = piece.ends_with(b"\r");
            let ended = piece.ends_with(b"\n") || self.after_return;
            self.line.extend_from_slice(&piece[..piece.len() - usize::from(ended)]);
            if self.line.len() + self.data.as_ref().map_or(0, String::len) > most {
                return None;
            }
            if ended {
                let line = std::mem::take(&mut self.line);
                said.extend(self.take(&String::from_utf8_lossy(&line)));
            }
        }
        Some(said)
    }

    fn take(&mut self, line: &str) -> Option<Said> {
        if line.is_empty() {
            let (name, id) = (std::mem::take(&mut self.name), self.id.take());
            return self.data.take().map(|data| Said::Event { name, data, id });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => return Some(Said::Comment),
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => return value.parse().ok().map(Said::Retry),
            _ => {}
        }
        None
    }
}

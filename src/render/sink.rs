//! The end of every exporter: bytes gathered into large writes, and an error that sticks.

use std::io::{self, Write};

/// Bytes gathered before a write. Large enough that system calls do not show, small enough that a
/// reader at the other end of a pipe is not kept waiting.
const CHUNK: usize = 64 * 1024;

/// A buffer in front of the writer.
pub(super) struct Sink<'w> {
    writer: Box<dyn Write + 'w>,
    /// What is not written yet; exporters append to it.
    pub(super) buffer: Vec<u8>,
    /// Part of a failed chunk may have been written, so that writing on would leave a hole.
    failed: Option<io::ErrorKind>,
}

impl<'w> Sink<'w> {
    pub(super) fn new(writer: Box<dyn Write + 'w>) -> Self {
        Self { writer, buffer: Vec::with_capacity(2 * CHUNK), failed: None }
    }

    /// Ends a line: writes the buffer out if it is full.
    pub(super) fn line_done(&mut self) -> io::Result<()> {
        if self.buffer.len() < CHUNK { Ok(()) } else { self.drain() }
    }

    /// Writes what is left and flushes.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.drain()?;
        let flushed = self.writer.flush();
        self.remember(flushed)
    }

    fn drain(&mut self) -> io::Result<()> {
        if let Some(kind) = self.failed {
            self.buffer.clear();
            return Err(kind.into());
        }
        let written = self.writer.write_all(&self.buffer);
        self.buffer.clear();
        self.remember(written)
    }

    fn remember(&mut self, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = &result {
            self.failed = Some(error.kind());
        }
        result
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        self.line_done()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.finish()
    }
}

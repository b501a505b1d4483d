//! Signal servers as a link or a code holds them: `uint n <= 8 | n x buffer URL <= 512`.

use kinlog_feeds::encoding::{DecodeError, Reader, Writer};

use crate::limits::{SIGNAL_URL_BYTES_MAX, SIGNAL_URLS_MAX};

/// Signal servers that are not what they should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum SignalsError {
    Decode(DecodeError),
    /// A URL that is not UTF-8.
    Url {
        number: usize,
    },
}

impl From<DecodeError> for SignalsError {
    fn from(error: DecodeError) -> Self {
        SignalsError::Decode(error)
    }
}

pub(crate) fn put_signals(out: &mut Vec<u8>, urls: &[String]) {
    out.put_uint(urls.len() as u64);
    for url in urls {
        out.put_buffer(url.as_bytes());
    }
}

pub(crate) fn read_signals(reader: &mut Reader<'_>) -> Result<Vec<String>, SignalsError> {
    let count = reader.uint_max("signal URLs", SIGNAL_URLS_MAX)?;
    let mut urls = Vec::with_capacity(count);
    for number in 0..count {
        let url = reader.buffer("signal URL", SIGNAL_URL_BYTES_MAX)?;
        let url = std::str::from_utf8(url).map_err(|_| SignalsError::Url { number })?;
        urls.push(url.to_owned());
    }
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<String>, SignalsError> {
        read_signals(&mut Reader::strict(bytes))
    }

    #[test]
    fn no_more_servers_than_fit_are_read_and_each_is_text() {
        let urls = vec!["wss://signal.example/".to_owned(); SIGNAL_URLS_MAX];
        let mut bytes = Vec::new();
        put_signals(&mut bytes, &urls);
        assert_eq!(read(&bytes), Ok(urls.clone()));
        let mut bytes = Vec::new();
        put_signals(&mut bytes, &[urls, vec![String::new()]].concat());
        assert!(matches!(read(&bytes), Err(SignalsError::Decode(_))));
        let mut bytes = vec![2];
        bytes.put_buffer(b"a");
        bytes.put_buffer(&[0xff]);
        assert_eq!(read(&bytes), Err(SignalsError::Url { number: 1 }));
    }
}

//! What becomes of errors that travel with `?`.

use std::error::Error;
use std::io;
use std::iter::successors;

use super::{Category, Failure, Retry};
use crate::CapabilityError;

/// `Failure` itself is deliberately no `std::error::Error`, or this would not be allowed.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

impl Failure {
    /// What becomes of an error that is known by its trait alone, for example the one in a `Box<dyn Error>`.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let chain = || successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source());
        let (category, code, retry) =
            chain().find_map(known).unwrap_or((Category::Action, "ACTION_FAILED", Retry::Default));
        let message: Vec<String> = chain().map(text).collect();
        Self::new(category, code, message.join(": ")).retry(retry)
    }

    /// A capability's refusal, as a failure with a code and category that fit.
    pub fn of_capability(error: &CapabilityError) -> Self {
        Self::of(error)
    }
}

/// What a program should make of an error, if its type is one that says so.
fn known(error: &(dyn Error + 'static)) -> Option<(Category, &'static str, Retry)> {
    use Category::{Action, Limit, Policy, Timeout, Transient, Validation};
    if let Some(error) = error.downcast_ref::<CapabilityError>() {
        return Some(match error {
            CapabilityError::Denied(_) => (Policy, "CAPABILITY_DENIED", Retry::Never),
            CapabilityError::NotFound(_) => (Action, "NOT_FOUND", Retry::Default),
            CapabilityError::Invalid(_) => (Validation, "INVALID_REQUEST", Retry::Default),
            CapabilityError::TooLarge(_) => (Limit, "TOO_LARGE", Retry::Default),
            CapabilityError::Quota(_) => (Limit, "QUOTA", Retry::Default),
            CapabilityError::Timeout => (Timeout, "CAPABILITY_TIMEOUT", Retry::Default),
            CapabilityError::Unavailable(_) => (Transient, "UNAVAILABLE", Retry::Default),
            CapabilityError::Other(_) => (Action, "CAPABILITY_FAILED", Retry::Default),
        });
    }
    if error.is::<serde_json::Error>() {
        return Some((Validation, "JSON_INVALID", Retry::Default));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return Some(io_error(error.kind()));
    }
    let data = error.is::<std::num::ParseIntError>()
        || error.is::<std::num::ParseFloatError>()
        || error.is::<std::num::TryFromIntError>()
        || error.is::<std::str::ParseBoolError>()
        || error.is::<std::str::Utf8Error>()
        || error.is::<std::string::FromUtf8Error>()
        || error.is::<std::char::ParseCharError>();
    data.then_some((Validation, "DATA_INVALID", Retry::Default))
}

fn io_error(kind: io::ErrorKind) -> (Category, &'static str, Retry) {
    use io::ErrorKind as Kind;
    match kind {
        Kind::TimedOut => (Category::Timeout, "IO_TIMEOUT", Retry::Default),
        Kind::ConnectionRefused
        | Kind::ConnectionReset
        | Kind::ConnectionAborted
        | Kind::BrokenPipe
        | Kind::HostUnreachable
        | Kind::NetworkUnreachable
        | Kind::Interrupted
        | Kind::WouldBlock => (Category::Transient, "IO_UNAVAILABLE", Retry::Default),
        Kind::PermissionDenied => (Category::Policy, "IO_DENIED", Retry::Never),
        Kind::InvalidData | Kind::InvalidInput | Kind::UnexpectedEof => {
            (Category::Validation, "DATA_INVALID", Retry::Default)
        }
        _ => (Category::Action, "IO_FAILED", Retry::Default),
    }
}

/// The generated error prints as its own name and not as what the host said.
fn text(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<CapabilityError>() {
        Some(
            CapabilityError::Denied(what)
            | CapabilityError::NotFound(what)
            | CapabilityError::Invalid(what)
            | CapabilityError::Quota(what)
            | CapabilityError::Unavailable(what)
            | CapabilityError::Other(what),
        ) => what.clone(),
        Some(CapabilityError::TooLarge(max)) => format!("more than the {max} bytes that are allowed"),
        Some(CapabilityError::Timeout) => "the host's answer took too long".to_owned(),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    /// What `?` does.
    fn travel<E: Into<Failure>>(error: E) -> Failure {
        fn fails<E: Into<Failure>>(error: E) -> Result<(), Failure> {
            Err(error.into())
        }
        fails(error).expect_err("it fails")
    }

    #[test]
    fn a_capabilitys_refusal_says_whether_it_may_pass() {
        let what = || "what".to_owned();
        for (error, category, code, message, retry) in [
            (CapabilityError::Denied(what()), Category::Policy, "CAPABILITY_DENIED", "what", Retry::Never),
            (CapabilityError::NotFound(what()), Category::Action, "NOT_FOUND", "what", Retry::Default),
            (CapabilityError::Invalid(what()), Category::Validation, "INVALID_REQUEST", "what", Retry::Default),
            (
                CapabilityError::TooLarge(9),
                Category::Limit,
                "TOO_LARGE",
                "more than the 9 bytes that are allowed",
                Retry::Default,
            ),
            (CapabilityError::Quota(what()), Category::Limit, "QUOTA", "what", Retry::Default),
            (
                CapabilityError::Timeout,
                Category::Timeout,
                "CAPABILITY_TIMEOUT",
                "the host's answer took too long",
                Retry::Default,
            ),
            (CapabilityError::Unavailable(what()), Category::Transient, "UNAVAILABLE", "what", Retry::Default),
            (CapabilityError::Other(what()), Category::Action, "CAPABILITY_FAILED", "what", Retry::Default),
        ] {
            let expected = Failure::new(category, code, message).retry(retry);
            assert_eq!(Failure::of_capability(&error), expected);
            assert_eq!(travel(error), expected);
        }
    }

    #[test]
    fn errors_of_std_and_serde_have_their_categories() {
        let io = |kind| travel(io::Error::from(kind));
        let json = serde_json::from_str::<u8>("{").expect_err("no number");
        let utf8 = String::from_utf8(vec![0xff]).expect_err("no text");
        for (failure, category, code) in [
            (travel(json), Category::Validation, "JSON_INVALID"),
            (travel("x".parse::<u8>().expect_err("no number")), Category::Validation, "DATA_INVALID"),
            (travel("x".parse::<f64>().expect_err("no number")), Category::Validation, "DATA_INVALID"),
            (travel(u8::try_from(300).expect_err("too large")), Category::Validation, "DATA_INVALID"),
            (travel(utf8), Category::Validation, "DATA_INVALID"),
            (io(io::ErrorKind::TimedOut), Category::Timeout, "IO_TIMEOUT"),
            (io(io::ErrorKind::ConnectionRefused), Category::Transient, "IO_UNAVAILABLE"),
            (io(io::ErrorKind::PermissionDenied), Category::Policy, "IO_DENIED"),
            (io(io::ErrorKind::InvalidData), Category::Validation, "DATA_INVALID"),
            (io(io::ErrorKind::NotFound), Category::Action, "IO_FAILED"),
            (travel(fmt::Error), Category::Action, "ACTION_FAILED"),
        ] {
            assert_eq!((failure.category(), failure.code()), (category, code), "{failure}");
        }
    }

    #[derive(Debug)]
    struct Wrapped(CapabilityError);

    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("failed to fetch the order")
        }
    }

    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn a_wrapped_error_keeps_the_category_of_its_cause() {
        let failure = travel(Wrapped(CapabilityError::Unavailable("connection refused".to_owned())));
        assert_eq!((failure.category(), failure.code()), (Category::Transient, "UNAVAILABLE"));
        assert_eq!(failure.message(), "failed to fetch the order: connection refused");

        let boxed: Box<dyn Error> = Box::new(Wrapped(CapabilityError::Timeout));
        assert_eq!(Failure::of(&*boxed).category(), Category::Timeout);
    }

    #[test]
    fn a_failure_can_be_made_more_precise() {
        let failure = travel("x".parse::<u16>().expect_err("no number"))
            .with_code("PORT_INVALID")
            .with_category(Category::Policy)
            .while_doing("failed to read the port");
        assert_eq!((failure.category(), failure.code()), (Category::Policy, "PORT_INVALID"));
        assert_eq!(failure.message(), "failed to read the port: invalid digit found in string");
    }
}

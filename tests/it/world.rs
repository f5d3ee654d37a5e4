//! Real components that no one here wrote. Each test is skipped, by one line, where its component is not installed;
//! `tests/run --world` installs them.

mod tokens; // an OpenID provider

//! Where the door and the admin side may listen, found out before anything is made or started.

use std::net::{SocketAddr, TcpListener};

use gapura_settings::exposed;

use crate::error::Error;

/// Refuses what nobody should reach: keys for development are no keys against a network.
pub(crate) fn check_reach(
    listen: SocketAddr,
    admin: SocketAddr,
    expose_dev_keys: bool,
) -> Result<(), Error> {
    if exposed(listen) && !expose_dev_keys {
        return Err(Error::Refused(format!(
            "--listen {listen} can be reached from other machines, and the keys of gapura up are for development; \
             listen on 127.0.0.1, or say --expose-dev-keys"
        )));
    }
    if exposed(admin) {
        return Err(Error::Refused(format!(
            "--admin {admin} can be reached from other machines; the admin side of gapura up stays on loopback, as in --admin 127.0.0.1:9901"
        )));
    }
    if listen == admin && listen.port() != 0 {
        return Err(Error::Refused(format!(
            "--listen and --admin are both {listen}; give each its own port"
        )));
    }
    Ok(())
}

/// Refuses an address that is taken, under the name of the flag that chooses another.
///
/// The gateway's own listener shares its port among its workers, and would share it with a second
/// gateway just the same; this probe does not share.
pub(crate) fn check_free(flag: &str, address: SocketAddr) -> Result<(), Error> {
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(err) if err.kind() == std::io::ErrorKind::AddrInUse => {
            let other = SocketAddr::new(address.ip(), address.port().checked_add(1).unwrap_or(0));
            Err(Error::Refused(format!(
                "port {} is in use by another program ({address}); choose another with {flag}, as in {flag} {other}",
                address.port()
            )))
        }
        Err(err) => Err(Error::Refused(format!(
            "can't listen on {address}: {err}; choose another address with {flag}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_an_insistent_user_is_reached_from_elsewhere() {
        let admin = at("127.0.0.1:9901");
        assert!(check_reach(at("127.0.0.1:8443"), admin, false).is_ok());
        assert!(check_reach(at("[::1]:8443"), admin, false).is_ok());
        for listen in ["0.0.0.0:8443", "[::]:8443", "192.0.2.1:8443"] {
            assert!(
                check_reach(at(listen), admin, false)
                    .unwrap_err()
                    .to_string()
                    .contains("--expose-dev-keys")
            );
            assert!(check_reach(at(listen), admin, true).is_ok());
        }
        assert!(check_reach(at("127.0.0.1:8443"), at("0.0.0.0:9901"), true).is_err());
        assert!(check_reach(at("127.0.0.1:8443"), at("127.0.0.1:8443"), false).is_err());
        assert!(check_reach(at("127.0.0.1:0"), at("127.0.0.1:0"), false).is_ok());
    }

    #[test]
    fn a_taken_port_is_named_with_the_flag_that_chooses_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let refusal = check_free("--listen", address).unwrap_err();
        let sentence = refusal.to_string();
        assert!(
            sentence.contains(&format!("port {} is in use", address.port()))
                && sentence.contains("--listen"),
            "{sentence}"
        );
        assert_eq!(refusal.exit_code(), 2);
        drop(taken);
        assert!(check_free("--listen", address).is_ok());
    }
}

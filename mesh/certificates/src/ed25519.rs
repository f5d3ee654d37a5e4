//! Which Ed25519 public keys are no keys: the points of small order.
//!
//! In: the 32 bytes of a public key. Out: whether its point has an order of 8 or less. For such a
//! point a signature can be made by anybody who has seen the public key, for every message or for
//! one in eight, and common libraries take it. Nothing else about a key is judged here.

/// The y coordinates of the eight points of small order, and their spellings beyond the field's
/// size, without the sign of x.
const SMALL: [[u8; 32]; 7] = [
    edge(0x00, 0x00, 0x00),
    edge(0x01, 0x00, 0x00),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    edge(0xec, 0xff, 0x7f),
    edge(0xed, 0xff, 0x7f),
    edge(0xee, 0xff, 0x7f),
];

const fn edge(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut y = [between; 32];
    y[0] = first;
    y[31] = last;
    y
}

/// Whether a public key is a point of small order, in whatever spelling. What has not 32 bytes is
/// no point at all.
#[must_use]
pub fn is_small_order(key: &[u8]) -> bool {
    let Ok(mut y): Result<[u8; 32], _> = key.try_into() else {
        return false;
    };
    y[31] &= 0x7f; // the sign of x
    SMALL.contains(&y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    /// R = the neutral point and S = 0 sign whatever message's hash is a multiple of the key's
    /// order.
    fn anybody_can_sign(key: &[u8; 32]) -> bool {
        let signature = [edge(1, 0, 0), [0; 32]].concat();
        (0..200_u8).any(|message| {
            UnparsedPublicKey::new(&ED25519, key)
                .verify(&[message], &signature)
                .is_ok()
        })
    }

    #[test]
    fn every_point_of_the_list_is_one_that_anybody_can_sign_for_where_the_library_takes_it() {
        let mut forged = 0;
        for y in SMALL {
            for sign in [0, 0x80] {
                let mut key = y;
                key[31] |= sign;
                assert!(is_small_order(&key));
                forged += usize::from(anybody_can_sign(&key));
            }
        }
        assert!(forged >= 5, "{forged}");
    }

    #[test]
    fn a_real_key_is_none_of_them() {
        let key: [u8; 32] = std::array::from_fn(|at| at as u8 ^ 0x5a);
        assert!(!is_small_order(&key) && !anybody_can_sign(&key));
        assert!(!is_small_order(&[0; 31]) && !is_small_order(&[]));
    }
}

//! Key usage, purposes, serial numbers, signatures, keys, extensions, encodings.

use super::rows;
use crate::judgement::GATEWAY;
use crate::judgement::Row;
use crate::judgement::Want::{NoSet, Refused, Taken};
use crate::judgement::mint::{
    AGREE, ANY, CERTS, CLIENT, CODE, CRLS, DIGITAL, ENCIPHER, K, NAMES, PURPOSES, SERVER, Sig,
    USAGE, basic, ec_info, key, names, plain_info, points, policies, purposes, raw, rsa_info, seq,
    tlv, uri, usage,
};

const NOT_GOOD_FOR: &str = "the certificate is not good for";
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

pub(super) fn key_usage() -> Vec<Row> {
    rows! {"key usage";
        "a leaf without any": |c| c.leaf.unset(USAGE) => Taken;
        "a leaf with digitalSignature and more": |c| c.leaf.set(usage(DIGITAL | ENCIPHER | AGREE)) => Taken;
        "a leaf with digitalSignature, not critical": |c| c.leaf.set(usage(DIGITAL).critical(false)) => Taken;
        "a leaf with keyEncipherment only": |c| c.leaf.set(usage(ENCIPHER)) => Refused("form", "lacks digitalSignature");
        "a leaf with keyAgreement only": |c| c.leaf.set(usage(AGREE)) => Refused("form", "lacks digitalSignature");
        "a leaf with an empty one": |c| c.leaf.set(usage(0)) => Refused("form", "lacks digitalSignature");
        "a leaf without digitalSignature, not critical": |c| c.leaf.set(usage(ENCIPHER).critical(false)) => Refused("form", "lacks digitalSignature");
        "a leaf with keyCertSign": |c| c.leaf.set(usage(DIGITAL | CERTS)) => Refused("form", "its key usage has keyCertSign");
        "a leaf with cRLSign": |c| c.leaf.set(usage(DIGITAL | CRLS)) => Refused("form", "its key usage has cRLSign");
        "a leaf with both": |c| c.leaf.set(usage(DIGITAL | CERTS | CRLS)) => Refused("form", "its key usage has keyCertSign");
        "a plugin's leaf with keyCertSign": |c| { c.plugin(); c.leaf.set(usage(DIGITAL | CERTS)) } => Refused("form", "its key usage has keyCertSign");
        "a leaf with nonsense in its place": |c| c.leaf.set(raw(USAGE, true, &[4, 1, 0x80])) => Refused("form", "a key usage that cannot be read");
        "a leaf with bits beyond the first byte": |c| c.leaf.set(raw(USAGE, true, &[3, 3, 7, 0x80, 0x80])) => Taken;
        "a CA without any": |c| c.cas[0].unset(USAGE) => Taken;
        "a CA without keyCertSign": |c| c.cas[0].set(usage(CRLS)) => Refused("form", "the CA CN=issuing may not sign certificates");
        "a CA without keyCertSign, not critical": |c| c.cas[0].set(usage(CRLS).critical(false)) => Refused("form", "may not sign certificates");
        "a CA with digitalSignature only": |c| { c.cas[0].set(usage(DIGITAL)); c.crls.remove(0) } => Refused("form", "may not sign certificates");
        "a CA with digitalSignature as well": |c| c.cas[0].set(usage(DIGITAL | CERTS | CRLS)) => Taken;
        "a middle CA without keyCertSign": |c| { c.deep(2); c.cas[1].set(usage(CRLS)) } => Refused("form", "the CA CN=ca1 may not sign certificates");
        "a root without any": |c| c.roots[0].unset(USAGE) => Taken;
        "a root without keyCertSign": |c| c.roots[0].set(usage(CRLS)) => NoSet("the CA CN=root may not sign certificates");
        "a CA with nonsense in its place": |c| c.no_ca(|ca| ca.set(raw(USAGE, true, &[4, 1, 0x06]))) => Refused("form", "a key usage that cannot be read");
        "an issuing CA in ca.pem without keyCertSign": |c| {
            let mut ca = c.cas.remove(0);
            ca.set(usage(CRLS));
            c.roots.push(ca)
        } => Refused("unknown_issuer", "no chain leads");
    }
}

pub(super) fn purposes_of_leaf_and_ca() -> Vec<Row> {
    rows! {"extended key usage";
        "a gateway for dialling": |c| c.leaf.set(purposes(&[CLIENT])) => Taken;
        "a gateway for both": |c| c.leaf.set(purposes(&[SERVER, CLIENT])) => Taken;
        "a gateway for dialling and code": |c| c.leaf.set(purposes(&[CODE, CLIENT])) => Taken;
        "a gateway for answering": |c| c.leaf.set(purposes(&[SERVER])) => Refused("purpose", NOT_GOOD_FOR);
        "a gateway for code": |c| c.leaf.set(purposes(&[CODE])) => Refused("purpose", NOT_GOOD_FOR);
        "a gateway for anything": |c| c.leaf.set(purposes(&[ANY])) => Refused("purpose", NOT_GOOD_FOR);
        "a gateway for anything and dialling": |c| c.leaf.set(purposes(&[ANY, CLIENT])) => Taken;
        "a gateway that does not say": |c| c.leaf.unset(PURPOSES) => Refused("purpose", NOT_GOOD_FOR);
        "a gateway with an empty list": |c| c.leaf.set(purposes(&[])) => Refused("purpose", NOT_GOOD_FOR);
        "a gateway, critical": |c| c.leaf.set(purposes(&[CLIENT]).critical(true)) => Taken;
        "a plugin for answering": |c| { c.plugin(); c.leaf.set(purposes(&[SERVER])) } => Taken;
        "a plugin for both": |c| { c.plugin(); c.leaf.set(purposes(&[SERVER, CLIENT])) } => Taken;
        "a plugin for dialling": |c| { c.plugin(); c.leaf.set(purposes(&[CLIENT])) } => Refused("purpose", NOT_GOOD_FOR);
        "a plugin that does not say": |c| { c.plugin(); c.leaf.unset(PURPOSES) } => Refused("purpose", NOT_GOOD_FOR);
        "a CA for dialling": |c| c.cas[0].set(purposes(&[CLIENT])) => Taken;
        "a CA for both": |c| c.cas[0].set(purposes(&[SERVER, CLIENT])) => Taken;
        "a CA for answering, the leaf for dialling": |c| c.cas[0].set(purposes(&[SERVER])) => Refused("constraint", "an issuing CA's extended key usage");
        "a CA for code": |c| c.cas[0].set(purposes(&[CODE])) => Refused("constraint", "an issuing CA's extended key usage");
        "a leaf with nonsense in its place": |c| c.leaf.set(raw(PURPOSES, false, &[4, 1, 0])) => Refused("malformed", "");
    }
}

pub(super) fn serials() -> Vec<Row> {
    rows! {"serial numbers";
        "one": |c| c.leaf.serial = vec![1] => Taken;
        "zero": |c| c.leaf.serial = vec![0] => Refused("form", "the certificate has a serial number of zero or below");
        "minus one": |c| c.leaf.serial = vec![0xff] => Refused("form", "zero or below");
        "a negative one of 16 bytes": |c| c.leaf.serial = vec![0x80; 16] => Refused("form", "zero or below");
        "one with a zero before its top bit": |c| c.leaf.serial = vec![0, 0x80] => Taken;
        "20 bytes": |c| c.leaf.serial = vec![0x7f; 20] => Taken;
        "20 bytes after a zero": |c| c.leaf.serial = [vec![0], vec![0xff; 20]].concat() => Taken;
        "21 bytes": |c| c.leaf.serial = vec![0x7f; 21] => Refused("malformed", "");
        "a CA's of zero": |c| c.cas[0].serial = vec![0] => Refused("form", "the certificate of the CA CN=issuing has a serial number of zero");
        "a CA's of minus one": |c| c.cas[0].serial = vec![0xff] => Refused("form", "zero or below");
        "a root's of zero": |c| c.roots[0].serial = vec![0] => NoSet("the certificate of the CA CN=root has a serial number of zero");
        "a root's of minus two": |c| c.roots[0].serial = vec![0xfe] => NoSet("zero or below");
        "none at all": |c| c.leaf.serial = vec![] => Refused("form", "zero or below");
    }
}

pub(super) fn signatures() -> Vec<Row> {
    const SHA1_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05];
    const MD5_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04];
    const SHA1_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    const UNKNOWN: &[u8] = &[0x2a, 3, 4];
    const NOT_TAKEN: &str = "a signature algorithm is not one we take";
    rows! {"signatures";
        "ECDSA on P-256": |c| c.issuer_key(K::Ca(0), Sig::Usual) => Taken;
        "ECDSA on P-384": |c| c.issuer_key(K::P384, Sig::Usual) => Taken;
        "ECDSA on P-521": |c| c.issuer_key(K::P521, Sig::Usual) => Taken;
        "Ed25519": |c| c.issuer_key(K::Ed, Sig::Usual) => Taken;
        "RSA with SHA-256": |c| c.issuer_key(K::Rsa, Sig::Usual) => Taken;
        "RSA with SHA-384": |c| c.issuer_key(K::Rsa, Sig::Rsa384) => Taken;
        "RSA with SHA-512": |c| c.issuer_key(K::Rsa3072, Sig::Rsa512) => Taken;
        "RSA-PSS": |c| c.issuer_key(K::Rsa, Sig::RsaPss) => Taken;
        "RSA with SHA-1": |c| c.issuer_key(K::Rsa, Sig::Named(SHA1_RSA)) => Refused("constraint", NOT_TAKEN);
        "RSA with MD5": |c| c.issuer_key(K::Rsa, Sig::Named(MD5_RSA)) => Refused("constraint", NOT_TAKEN);
        "ECDSA with SHA-1": |c| c.leaf.sig = Sig::Named(SHA1_EC) => Refused("constraint", NOT_TAKEN);
        "an algorithm that nobody knows": |c| c.leaf.sig = Sig::Named(UNKNOWN) => Refused("constraint", NOT_TAKEN);
        "a CA signed with SHA-1": |c| c.cas[0].sig = Sig::Named(SHA1_EC) => Refused("constraint", NOT_TAKEN);
        "one algorithm inside and another outside": |c| {
            c.leaf.inner = Some(seq(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 3])]))
        } => Refused("constraint", "");
        "a CA with one inside and another outside": |c| {
            c.cas[0].inner = Some(seq(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 3])]))
        } => Refused("constraint", "");
        "an RSA issuer of 1024 bits": |c| {
            c.cas[0].info = rsa_info(128, 0xb5, &[1, 0, 1]);
            c.leaf.sig = Sig::Named(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b]);
            c.crls.remove(0)
        } => Refused("bad_signature", "is not its issuer's");
    }
}

pub(super) fn leaf_keys() -> Vec<Row> {
    const WANTED: &str = "a handshake takes RSA of 2048 to 8192 bits";
    rows! {"leaf keys";
        "P-256": |c| c.leaf.info.clone_from(&key(K::Leaf).info) => Taken;
        "P-384": |c| c.leaf.info.clone_from(&key(K::P384).info) => Taken;
        "P-521": |c| c.leaf.info.clone_from(&key(K::P521).info) => Taken;
        "Ed25519": |c| c.leaf.info.clone_from(&key(K::Ed).info) => Taken;
        "RSA of 2048 bits": |c| c.leaf.info.clone_from(&key(K::Rsa).info) => Taken;
        "RSA of 3072 bits": |c| c.leaf.info.clone_from(&key(K::Rsa3072).info) => Taken;
        "RSA of 1024 bits": |c| c.leaf.info = rsa_info(128, 0xb5, &[1, 0, 1]) => Refused("form", "the certificate's key is RSA of 1024 bits");
        "RSA of 2047 bits": |c| c.leaf.info = rsa_info(256, 0x75, &[1, 0, 1]) => Refused("form", "RSA of 2047 bits");
        "RSA of 16384 bits": |c| c.leaf.info = rsa_info(2048, 0xb5, &[1, 0, 1]) => Refused("form", "RSA of 16384 bits");
        "RSA with an exponent of one": |c| c.leaf.info = rsa_info(256, 0xb5, &[1]) => Refused("form", "an exponent that is not");
        "RSA with an even exponent": |c| c.leaf.info = rsa_info(256, 0xb5, &[1, 0, 0]) => Refused("form", "an exponent that is not");
        "RSA for PSS only": |c| {
            c.leaf.info = plain_info(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a], &[0x30, 0])
        } => Refused("form", "RSA for PSS only");
        "P-224": |c| c.leaf.info = ec_info(&[0x2b, 0x81, 0x04, 0x00, 0x21], &[4; 57]) => Refused("form", "the certificate's key is EC on P-224");
        "secp256k1": |c| c.leaf.info = ec_info(&[0x2b, 0x81, 0x04, 0x00, 0x0a], &[4; 65]) => Refused("form", "EC on secp256k1");
        "P-192": |c| c.leaf.info = ec_info(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x01], &[4; 49]) => Refused("form", "EC on P-192");
        "brainpoolP256r1": |c| {
            c.leaf.info = ec_info(&[0x2b, 0x24, 0x03, 0x03, 0x02, 0x08, 0x01, 0x01, 0x07], &[4; 65])
        } => Refused("form", "EC on brainpoolP256r1");
        "a curve that nobody knows": |c| c.leaf.info = ec_info(&[0x2a, 3, 4], &[4; 65]) => Refused("form", "EC on curve 1.2.3.4");
        "a curve written out": |c| {
            c.leaf.info = seq(&[
                &seq(&[&tlv(6, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01]), &seq(&[])]),
                &tlv(3, &[0, 4]),
            ])
        } => Refused("form", "EC on a curve without a name");
        "a point that is not on its curve": |c| c.leaf.info = ec_info(P256, &[4; 65]) => Refused("form", "no valid P-256 key");
        "the point at infinity": |c| c.leaf.info = ec_info(P256, &[0]) => Refused("form", "no valid P-256 key");
        "half a point": |c| c.leaf.info = ec_info(P256, &[4; 33]) => Refused("form", "no valid P-256 key");
        "Ed448": |c| c.leaf.info = plain_info(&[0x2b, 0x65, 0x71], &[7; 57]) => Refused("form", "the certificate's key is Ed448");
        "X25519": |c| c.leaf.info = plain_info(&[0x2b, 0x65, 0x6e], &[9; 32]) => Refused("form", "X25519");
        "DSA": |c| c.leaf.info = plain_info(&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01], &[2, 1, 9]) => Refused("form", "DSA");
        "a key that nobody knows": |c| c.leaf.info = plain_info(&[0x2a, 3, 4], &[1]) => Refused("form", "of algorithm 1.2.3.4");
        "an Ed25519 key of 31 bytes": |c| c.leaf.info = plain_info(&[0x2b, 0x65, 0x70], &[9; 31]) => Refused("form", WANTED);
        "an Ed25519 point of order one": |c| {
            let mut point = [0; 32];
            point[0] = 1;
            c.leaf.info = plain_info(&[0x2b, 0x65, 0x70], &point)
        } => Refused("form", "small order");
        "an Ed25519 point of order four": |c| c.leaf.info = plain_info(&[0x2b, 0x65, 0x70], &[0; 32]) => Refused("form", "small order");
    }
}

pub(super) fn extensions() -> Vec<Row> {
    const UNKNOWN: &[u8] = &[0x2a, 3, 4];
    const NOT_KNOWN: &str = "a critical extension is not known";
    rows! {"extensions";
        "an unknown one": |c| c.leaf.set(raw(UNKNOWN, false, &[5, 0])) => Taken;
        "an unknown critical one": |c| c.leaf.set(raw(UNKNOWN, true, &[5, 0])) => Refused("constraint", NOT_KNOWN);
        "an unknown critical one of a CA": |c| c.cas[0].set(raw(UNKNOWN, true, &[5, 0])) => Refused("constraint", NOT_KNOWN);
        "policies": |c| c.leaf.set(policies()) => Taken;
        "where its list lies": |c| c.leaf.set(points(&["http://crl.test/a"])) => Taken;
        "an unknown one twice": |c| {
            c.leaf.set(raw(UNKNOWN, false, &[5, 0]));
            c.leaf.exts.push(raw(UNKNOWN, false, &[5, 0]))
        } => Refused("form", "the certificate has the extension 1.2.3.4 twice");
        "the key usage twice": |c| c.leaf.exts.push(usage(DIGITAL)) => Refused("form", "the certificate has the extension 2.5.29.15 twice");
        "the names twice": |c| c.leaf.exts.push(names(&[uri(GATEWAY)])) => Refused("form", "2.5.29.17 twice");
        "the purposes twice": |c| c.leaf.exts.push(purposes(&[SERVER])) => Refused("form", "2.5.29.37 twice");
        "the basic constraints of a CA twice": |c| c.no_ca(|ca| ca.exts.push(basic(true, None))) => Refused("form", "the certificate of the CA CN=issuing has the extension 2.5.29.19 twice");
        "an unknown one of a CA twice": |c| {
            c.cas[0].set(raw(UNKNOWN, false, &[5, 0]));
            c.cas[0].exts.push(raw(UNKNOWN, false, &[5, 0]))
        } => Refused("form", "1.2.3.4 twice");
        "an unknown one of a root twice": |c| {
            c.roots[0].set(raw(UNKNOWN, false, &[5, 0]));
            c.roots[0].exts.push(raw(UNKNOWN, false, &[5, 0]))
        } => NoSet("1.2.3.4 twice");
    }
}

pub(super) fn encodings() -> Vec<Row> {
    rows! {"encodings";
        "version 3": |c| c.leaf.version = tlv(0xa0, &[2, 1, 2]) => Taken;
        "version 1": |c| c.leaf.version = Vec::new() => Refused("malformed", "");
        "version 2": |c| c.leaf.version = tlv(0xa0, &[2, 1, 1]) => Refused("malformed", "");
        "version 4": |c| c.leaf.version = tlv(0xa0, &[2, 1, 3]) => Refused("malformed", "");
        "a byte behind it": |c| c.leaf.spoil = Some(|der| der.push(0)) => Refused("malformed", "");
        "cut short": |c| c.leaf.spoil = Some(|der| der.truncate(der.len() - 9)) => Refused("malformed", "");
        "a CA with a byte behind it": |c| c.no_ca(|ca| ca.spoil = Some(|der| der.push(0))) => Refused("malformed", "");
        "a root with a byte behind it": |c| c.roots[0].spoil = Some(|der| der.push(0)) => NoSet("cannot be read");
        "names with nonsense in their place": |c| c.leaf.set(raw(NAMES, false, &[4, 1, 0])) => Refused("malformed", "");
        "no names in the list": |c| c.leaf.set(names(&[])) => Refused("identity", "");
    }
}

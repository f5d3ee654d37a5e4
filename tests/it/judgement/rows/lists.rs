//! CRLs: which count, whom they end, what they speak of, how they are written.

use super::rows;
use crate::judgement::Want::{NoSet, OnlyVerified, Refused, Taken};
use crate::judgement::mint::{
    CERTS, Ext, K, Sig, USAGE, delta, entry_issuer, issuing_point, name, number, point_name,
    points, points_of_another, raw, reason, tlv, usage,
};
use crate::judgement::{Case, DAY, Row, list};

const LEAF: &[u8] = &[0x11, 0x77];
const CA: &[u8] = &[0x11, 2];
const A: &str = "http://crl.test/a";
const B: &str = "http://crl.test/b";

pub(super) fn which_count() -> Vec<Row> {
    const NO_LIST: &str = "crl.pem has no CRL of the certificate's issuer";
    rows! {"which lists count";
        "one of each CA": |c| c.later = 0 => Taken;
        "none of the root's": |c| { c.crls.pop(); } => Taken;
        "none of the leaf's issuer": |c| { c.crls.remove(0); } => Refused("no_crl", NO_LIST);
        "a list of an unknown CA": |c| { let other = list("other", K::Stranger, c.now); c.crls.push(other) } => OnlyVerified("which is no CA of this set");
        "a list that another key signed": |c| c.crls[0].by = K::Stranger => NoSet("is not signed by that CA's key");
        "a list whose signature is nothing": |c| c.crls[0].sig = Sig::Zeros => NoSet("is not signed by that CA's key");
        "a list in the leaf's name": |c| { let own = list("", K::Leaf, c.now); c.crls.push(own) } => OnlyVerified("which is no CA of this set");
        "a list of a CA that may not sign any": |c| c.cas[0].set(usage(CERTS)) => NoSet("whose key usage lacks cRLSign");
        "a list of a root that may not sign any": |c| c.roots[0].set(usage(CERTS)) => NoSet("whose key usage lacks cRLSign");
        "no list of a root that may not sign any": |c| { c.roots[0].set(usage(CERTS)); c.crls.pop(); } => Taken;
        "a list of a CA that does not say": |c| c.cas[0].unset(USAGE) => Taken;
        "a list that is due": |c| c.crls[0].next = Some(c.now - 3600) => Taken;
        "a list that was due two days ago": |c| { c.crls[0].from = c.now - 9 * DAY; c.crls[0].next = Some(c.now - 2 * DAY) } => Refused("crl_too_old", "was to be renewed by");
        "a list of the root that was due two days ago": |c| { c.crls[1].from = c.now - 9 * DAY; c.crls[1].next = Some(c.now - 2 * DAY) } => Refused("crl_too_old", "was to be renewed by");
        "a list that has not begun": |c| c.crls[0].from = c.now + 3600 => Refused("crl_not_begun", "the issuer's CRL begins at");
        "a list of the root that has not begun": |c| c.crls[1].from = c.now + 3600 => Refused("crl_not_begun", "the issuer's CRL begins at");
        "one that has begun beside a newer that has not": |c| next(c, 6, 3600) => Taken;
        "an older one beside": |c| { next(c, 4, -7200); c.crls.last_mut().unwrap().revoke(LEAF) } => Taken;
        "a newer one beside": |c| { next(c, 6, -1800); c.crls.last_mut().unwrap().revoke(LEAF) } => Refused("revoked", "is revoked");
        "a newer one before it": |c| { next(c, 6, -1800); c.crls.last_mut().unwrap().revoke(LEAF); c.crls.reverse() } => Refused("revoked", "is revoked");
        "two of one number, the second names it": |c| { next(c, 5, -3600); c.crls.last_mut().unwrap().revoke(LEAF) } => Refused("revoked", "is revoked");
        "two of one number, the first names it": |c| { next(c, 5, -3600); c.crls[0].revoke(LEAF) } => Refused("revoked", "is revoked");
        "two of one number, neither names it": |c| next(c, 5, -3600) => Taken;
        "two of one number, one too old": |c| {
            next(c, 5, -9 * DAY);
            c.crls.last_mut().unwrap().next = Some(c.now - 2 * DAY)
        } => Refused("crl_too_old", "was to be renewed by");
        "two without numbers of one time, one names it": |c| {
            next(c, 5, -3600);
            c.crls.last_mut().unwrap().exts.clear();
            c.crls.last_mut().unwrap().revoke(LEAF);
            c.crls[0].exts.clear()
        } => Refused("revoked", "is revoked");
        "one without a number beside one with": |c| {
            next(c, 5, -60);
            c.crls.last_mut().unwrap().exts.clear();
            c.crls.last_mut().unwrap().revoke(LEAF)
        } => Taken;
        "one that names it and is too old": |c| {
            c.crls[0].from = c.now - 90 * DAY;
            c.crls[0].next = Some(c.now - 80 * DAY);
            c.crls[0].revoke(LEAF)
        } => Refused("revoked", "is revoked");
    }
}

/// A further list of the leaf's issuer, of this number, made so many seconds from now.
fn next(case: &mut Case, number_of: u8, from: i64) {
    let mut next = list("issuing", K::Ca(0), case.now);
    next.from = case.now + from;
    next.set(number(&[number_of]));
    case.crls.push(next);
}

pub(super) fn what_they_name() -> Vec<Row> {
    rows! {"what lists name";
        "the leaf": |c| c.crls[0].revoke(LEAF) => Refused("revoked", "the certificate of spiffe://lab.test/gateway/edge is revoked (serial 1177)");
        "the leaf, with a zero before its number": |c| { c.crls[0].revoke(&[0, 0x11, 0x77]) } => Refused("revoked", "is revoked");
        "the leaf among others": |c| { for serial in 1..=9 { c.crls[0].revoke(&[0x11, 0x70 + serial]) } } => Refused("revoked", "is revoked");
        "the leaf twice": |c| { c.crls[0].revoke(LEAF); c.crls[0].revoke(LEAF) } => Refused("revoked", "is revoked");
        "its neighbours": |c| { c.crls[0].revoke(&[0x11, 0x76]); c.crls[0].revoke(&[0x11, 0x78]); c.crls[0].revoke(&[0x11]) } => Taken;
        "the leaf's number, by the root": |c| c.crls[1].revoke(LEAF) => Taken;
        "the issuing CA": |c| c.crls[1].revoke(CA) => Refused("revoked", "an issuing CA of spiffe://lab.test/gateway/edge");
        "the issuing CA's number, by itself": |c| c.crls[0].revoke(CA) => Taken;
        "a CA two levels up": |c| {
            c.deep(2);
            c.crls[1].revoke(&[0x11, 0x21])
        } => Refused("revoked", "an issuing CA of");
        "the leaf, on hold": |c| c.crls[0].revoked.push((LEAF.to_vec(), vec![reason(6)])) => Refused("revoked", "is revoked");
        "the leaf, with a reason": |c| c.crls[0].revoked.push((LEAF.to_vec(), vec![reason(1)])) => Refused("revoked", "is revoked");
        "a plugin": |c| { c.plugin(); c.crls[0].revoke(LEAF) } => Refused("revoked", "plugin/billing is revoked");
        "a serial number of 21 bytes": |c| c.crls[0].revoke(&[0x7f; 21]) => NoSet("a serial number in it is longer");
        "a certificate of another issuer": |c| c.crls[0].revoked.push((LEAF.to_vec(), vec![entry_issuer("other")])) => NoSet("it is an indirect CRL");
        "with an unknown extension of the entry": |c| c.crls[0].revoked.push((vec![9], vec![raw(&[0x2a, 3, 4], false, &[5, 0])])) => Taken;
        "with an unknown critical extension of the entry": |c| c.crls[0].revoked.push((vec![9], vec![raw(&[0x2a, 3, 4], true, &[5, 0])])) => NoSet("a critical extension that is not known");
        "with a reason twice": |c| c.crls[0].revoked.push((vec![9], vec![reason(1), reason(6)])) => NoSet("it has an extension twice");
    }
}

pub(super) fn points_of_distribution() -> Vec<Row> {
    const OTHER: &str = "are of distribution points that the certificate does not name";
    rows! {"distribution points";
        "a list of the leaf's point": |c| { c.leaf.set(points(&[A])); of_point(c, &[A]) } => Taken;
        "a list of the leaf's point that names it": |c| { c.leaf.set(points(&[A])); of_point(c, &[A]); c.crls[0].revoke(LEAF) } => Refused("revoked", "is revoked");
        "a list of another point": |c| { c.leaf.set(points(&[A])); of_point(c, &[B]) } => Refused("crl_other_point", OTHER);
        "a list of another point that names it": |c| { c.leaf.set(points(&[A])); of_point(c, &[B]); c.crls[0].revoke(LEAF) } => Refused("revoked", "is revoked");
        "a list of a point and a leaf of none": |c| of_point(c, &[A]) => Refused("crl_other_point", OTHER);
        "a list of no point and a leaf of one": |c| c.leaf.set(points(&[A])) => Taken;
        "a list of two points, one the leaf's": |c| { c.leaf.set(points(&[B])); of_point(c, &[A, B]) } => Taken;
        "a leaf of two points, one the list's": |c| { c.leaf.set(points(&[A, B])); of_point(c, &[B]) } => Taken;
        "lists of two points, one the leaf's": |c| { c.leaf.set(points(&[A])); of_point(c, &[B]); shard(c, &[A], 5) } => Taken;
        "lists of two points, the leaf's names it": |c| {
            c.leaf.set(points(&[A]));
            of_point(c, &[B]);
            shard(c, &[A], 5);
            c.crls.last_mut().unwrap().revoke(LEAF)
        } => Refused("revoked", "is revoked");
        "the number of one point does not outdo another's": |c| {
            c.leaf.set(points(&[A]));
            of_point(c, &[A]);
            c.crls[0].revoke(LEAF);
            shard(c, &[B], 9)
        } => Refused("revoked", "is revoked");
        "lists of two points, the leaf's too old": |c| {
            c.leaf.set(points(&[A]));
            of_point(c, &[A]);
            (c.crls[0].from, c.crls[0].next) = (c.now - 9 * DAY, Some(c.now - 2 * DAY));
            shard(c, &[B], 5)
        } => Refused("crl_too_old", "was to be renewed by");
        "a list of a point beside one of all": |c| { c.leaf.set(points(&[A])); of_point(c, &[B]); shard(c, &[], 5) } => Taken;
        "a leaf of another issuer's point": |c| { c.leaf.set(points_of_another(A)); of_point(c, &[A]) } => Refused("crl_other_point", OTHER);
        "the root's list of a point that the CA names": |c| {
            c.cas[0].set(points(&[A]));
            c.crls[1].set(issuing_point(&[point_name(&[A])]))
        } => Taken;
        "the root's list of a point that the CA does not name": |c| c.crls[1].set(issuing_point(&[point_name(&[A])])) => Refused("crl_other_point", OTHER);
        "a point in other letters": |c| { c.leaf.set(points(&["HTTP://crl.test/a"])); of_point(c, &[A]) } => Refused("crl_other_point", OTHER);
    }
}

fn of_point(case: &mut Case, urls: &[&str]) {
    case.crls[0].set(issuing_point(&[point_name(urls)]));
}

/// A further list of the leaf's issuer, of these points, or of all certificates.
fn shard(case: &mut Case, urls: &[&str], number_of: u8) {
    let mut shard = list("issuing", K::Ca(0), case.now);
    shard.set(number(&[number_of]));
    if !urls.is_empty() {
        shard.set(issuing_point(&[point_name(urls)]));
    }
    case.crls.push(shard);
}

pub(super) fn forms() -> Vec<Row> {
    rows! {"forms of lists";
        "without a number": |c| c.crls[0].exts.clear() => Taken;
        "version 1": |c| { c.crls[0].version = None; c.crls[0].exts.clear() } => Taken;
        "version 1 with extensions": |c| c.crls[0].version = None => NoSet("cannot be read as a CRL");
        "version 3": |c| c.crls[0].version = Some(2) => NoSet("cannot be read as a CRL");
        "a delta": |c| c.crls[0].set(delta(1)) => NoSet("it is a delta CRL");
        "indirect": |c| only(c, tlv(0x84, &[0xff])) => NoSet("it is an indirect CRL");
        "of users only": |c| only(c, tlv(0x81, &[0xff])) => NoSet("onlyContainsUserCerts");
        "of CAs only": |c| only(c, tlv(0x82, &[0xff])) => NoSet("onlyContainsCACerts");
        "of attribute certificates only": |c| only(c, tlv(0x85, &[0xff])) => NoSet("onlyContainsAttributeCerts");
        "of some reasons only": |c| only(c, tlv(0x83, &[1, 0x40])) => NoSet("onlySomeReasons");
        "of users: no, said aloud": |c| only(c, tlv(0x81, &[0])) => Taken;
        "of a point by a relative name": |c| only(c, tlv(0xa0, &tlv(0xa1, &[]))) => NoSet("relative to its issuer's name");
        "of a point without a name": |c| only(c, tlv(0xa0, &tlv(0xa0, &[]))) => NoSet("cannot be read as a CRL");
        "an empty issuing point": |c| c.crls[0].set(issuing_point(&[])) => Taken;
        "an unknown extension": |c| c.crls[0].set(raw(&[0x2a, 3, 4], false, &[5, 0])) => Taken;
        "an unknown critical extension": |c| c.crls[0].set(raw(&[0x2a, 3, 4], true, &[5, 0])) => NoSet("a critical extension that is not known");
        "an extension twice": |c| twice(c, raw(&[0x2a, 3, 4], false, &[5, 0])) => NoSet("it has an extension twice");
        "a number twice": |c| c.crls[0].exts.push(number(&[6])) => NoSet("it has an extension twice");
        "a negative number": |c| c.crls[0].set(number(&[0xff])) => NoSet("cannot be read as a CRL");
        "a number of 20 bytes": |c| c.crls[0].set(number(&[0x7f; 20])) => Taken;
        "a number of 21 bytes": |c| c.crls[0].set(number(&[0x7f; 21])) => NoSet("cannot be read as a CRL");
        "no next update": |c| c.crls[0].next = None => NoSet("nextUpdate");
        "due before it was made": |c| c.crls[0].next = Some(c.now - 7200) => NoSet("before it was made");
        "a byte behind it": |c| c.crls[0].spoil = Some(|der| der.push(0)) => NoSet("cannot be read as a CRL");
        "cut short": |c| c.crls[0].spoil = Some(|der| der.truncate(der.len() - 9)) => NoSet("cannot be read as a CRL");
        "signed with SHA-1": |c| c.crls[0].sig = Sig::Named(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01]) => NoSet("is not signed by that CA's key");
        "signed with P-384": |c| { c.issuer_key(K::P384, Sig::Usual) } => Taken;
        "signed with RSA": |c| { c.issuer_key(K::Rsa, Sig::Usual) } => Taken;
        "the issuer's name in other letters": |c| c.crls[0].issuer = name("Issuing") => NoSet("CRL of ");
    }
}

fn only(case: &mut Case, field: Vec<u8>) {
    case.crls[0].set(issuing_point(&[field]));
}

fn twice(case: &mut Case, ext: Ext) {
    case.crls[0].exts.extend([ext.clone(), ext]);
}

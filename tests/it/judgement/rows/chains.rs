//! Chains, CA flags, path lengths, dates.

use super::rows;
use crate::judgement::Want::{NoSet, Refused, RefusedAtStart, Taken};
use crate::judgement::mint::{BASIC, CERTS, CRLS, DIGITAL, K, Sig, basic, name, raw, usage};
use crate::judgement::{DAY, Row, authority, list};

const NO_CHAIN: &str = "no chain leads";
const NOT_SIGNED: &str = "is not its issuer's";
const NO_CA: &str = "a leaf stands where a CA's";
const TOO_DEEP: &str = "more levels than its path length";

pub(super) fn paths() -> Vec<Row> {
    rows! {"chains";
        "root, issuing CA, leaf": |c| c.later = 0 => Taken;
        "root and leaf": |c| c.flat() => Taken;
        "a plugin that answers": |c| c.plugin() => Taken;
        "a plugin right under the root": |c| { c.flat(); c.plugin() } => Taken;
        "two CAs between": |c| c.deep(2) => Taken;
        "five CAs between": |c| c.deep(5) => Taken;
        "seven CAs between": |c| c.deep(7) => Refused("constraint", "");
        "CAs in the wrong order": |c| { c.deep(3); c.cas.reverse() } => Taken;
        "a CA that is not of the chain among them": |c| {
            let other = authority("other", K::Stranger, "other", K::Stranger, 9, c.now);
            c.cas.insert(0, other)
        } => Taken;
        "the root sent along": |c| { let root = c.roots[0].clone(); c.cas.push(root) } => Taken;
        "the issuing CA left out": |c| { c.cas.clear(); c.crls.remove(0) } => Refused("unknown_issuer", NO_CHAIN);
        "the middle CA left out": |c| { c.deep(3); c.cas.remove(1) } => Refused("unknown_issuer", NO_CHAIN);
        "the issuing CA in ca.pem instead": |c| { let ca = c.cas.remove(0); c.roots.push(ca) } => Taken;
        "the issuing CA as the only thing trusted": |c| {
            c.roots = vec![c.cas.remove(0)];
            c.crls.pop();
        } => Taken;
        "another root of the same name": |c| {
            c.roots[0] = authority("root", K::Stranger, "root", K::Stranger, 1, c.now);
            c.crls.pop();
        } => Refused("bad_signature", NOT_SIGNED);
        "two roots of one name, the right one second": |c| {
            let other = authority("root", K::Stranger, "root", K::Stranger, 8, c.now);
            c.roots.insert(0, other)
        } => Taken;
        "a root of another name with the right key": |c| {
            c.roots[0] = authority("other", K::Root, "other", K::Root, 1, c.now);
            c.crls.pop();
        } => Refused("unknown_issuer", NO_CHAIN);
        "a CA that signed itself and was sent along": |c| {
            c.cas[0].issuer = name("issuing");
            c.cas[0].by = K::Ca(0)
        } => Refused("unknown_issuer", NO_CHAIN);
        "a leaf that signed itself": |c| {
            c.cas.clear();
            c.crls.remove(0);
            c.leaf.by = K::Leaf;
            c.leaf.issuer = name("me");
            c.leaf.subject = name("me")
        } => Refused("unknown_issuer", NO_CHAIN);
        "a leaf signed by a leaf": |c| {
            let exts = c.leaf.exts.clone();
            c.no_ca(|ca| ca.exts = exts)
        } => Refused("constraint", NO_CA);
        "a leaf whose signature is another key's": |c| c.leaf.by = K::Stranger => Refused("bad_signature", NOT_SIGNED);
        "a CA whose signature is another key's": |c| c.cas[0].by = K::Stranger => Refused("bad_signature", NOT_SIGNED);
        "a leaf whose signature is nothing": |c| c.leaf.sig = Sig::Zeros => Refused("bad_signature", NOT_SIGNED);
        "the last byte of the leaf turned": |c| {
            c.leaf.spoil = Some(|der| *der.last_mut().unwrap() ^= 1)
        } => Refused("bad_signature", NOT_SIGNED);
        "a root cross-signed by an older one": |c| {
            c.roots[0] = authority("old", K::Stranger, "old", K::Stranger, 5, c.now);
            let cross = authority("old", K::Stranger, "root", K::Root, 6, c.now);
            c.cas.push(cross);
        } => Taken;
        "two CAs of one name and key, the first one of a stranger": |c| {
            let stranger = authority("stranger", K::Stranger, "issuing", K::Ca(0), 6, c.now);
            c.cas.insert(0, stranger)
        } => Taken;
        "two CAs of one name, the first with another key": |c| {
            let other = authority("root", K::Root, "issuing", K::Ca(1), 6, c.now);
            c.cas.insert(0, other)
        } => Taken;
        "two CAs of one name and key, the first may not certify": |c| {
            let mut mute = c.cas[0].clone();
            mute.set(usage(CRLS));
            mute.serial = vec![9];
            c.cas.insert(0, mute)
        } => Taken;
        "two CAs of one name and key, the first has ended": |c| {
            let mut old = c.cas[0].clone();
            (old.from, old.to) = (c.now - 9 * DAY, c.now - DAY);
            old.serial = vec![9];
            c.cas.insert(0, old)
        } => Taken;
        "CAs that lead round in a ring": |c| {
            c.deep(2);
            c.cas[1] = authority("ca0", K::Ca(0), "ca1", K::Ca(1), 9, c.now)
        } => Refused("unknown_issuer", NO_CHAIN);
    }
}

pub(super) fn basic_constraints() -> Vec<Row> {
    rows! {"basic constraints";
        "a leaf without any": |c| c.leaf.unset(BASIC) => Taken;
        "a leaf that says CA:FALSE, not critical": |c| c.leaf.set(basic(false, None).critical(false)) => Taken;
        "a leaf that says CA:TRUE": |c| c.leaf.set(basic(true, None)) => Refused("constraint", "a CA's certificate stands where");
        "a leaf that is a CA to the last": |c| {
            c.leaf.set(basic(true, Some(0)));
            c.leaf.set(usage(DIGITAL | CERTS))
        } => Refused("constraint", "a CA's certificate stands where");
        "a CA without any": |c| c.no_ca(|ca| ca.unset(BASIC)) => Refused("constraint", NO_CA);
        "a CA that says CA:FALSE": |c| c.no_ca(|ca| ca.set(basic(false, None))) => Refused("constraint", NO_CA);
        "a CA that says CA:FALSE, not critical": |c| c.no_ca(|ca| ca.set(basic(false, None).critical(false))) => Refused("constraint", NO_CA);
        "a CA that says CA:TRUE, not critical": |c| c.cas[0].set(basic(true, None).critical(false)) => Taken;
        "a middle CA without any": |c| { c.deep(2); c.cas[1].unset(BASIC) } => Refused("constraint", NO_CA);
        "a CA with nonsense in their place": |c| c.no_ca(|ca| ca.set(raw(BASIC, true, &[4, 1, 0]))) => Refused("malformed", "");
        "a leaf with nonsense in their place": |c| c.leaf.set(raw(BASIC, true, &[4, 1, 0])) => Refused("malformed", "");
        "a root without any": |c| c.roots[0].unset(BASIC) => NoSet("is no CA's");
        "a root that says CA:FALSE": |c| c.roots[0].set(basic(false, None)) => NoSet("is no CA's");
        "a leaf in ca.pem": |c| { let leaf = c.leaf.clone(); c.roots.push(leaf) } => NoSet("is no CA's");
    }
}

pub(super) fn path_lengths() -> Vec<Row> {
    rows! {"path lengths";
        "an issuing CA that allows none": |c| c.cas[0].set(basic(true, Some(0))) => Taken;
        "an issuing CA that allows none and has one below": |c| {
            c.deep(2);
            c.cas[1].set(basic(true, Some(0)))
        } => Refused("constraint", TOO_DEEP);
        "a CA that allows one and has one below": |c| {
            c.deep(2);
            c.cas[1].set(basic(true, Some(1)))
        } => Taken;
        "a CA that allows one and has two below": |c| {
            c.deep(3);
            c.cas[2].set(basic(true, Some(1)))
        } => Refused("constraint", TOO_DEEP);
        "lengths that count down": |c| {
            c.deep(3);
            c.cas[2].set(basic(true, Some(2)));
            c.cas[1].set(basic(true, Some(1)));
            c.cas[0].set(basic(true, Some(0)))
        } => Taken;
        "lengths that count down too early": |c| {
            c.deep(3);
            c.cas[2].set(basic(true, Some(2)));
            c.cas[1].set(basic(true, Some(0)))
        } => Refused("constraint", TOO_DEEP);
        "a longer one below a shorter does not help": |c| {
            c.deep(3);
            c.cas[2].set(basic(true, Some(1)));
            c.cas[1].set(basic(true, Some(6)))
        } => Refused("constraint", TOO_DEEP);
        "a length of 127": |c| c.cas[0].set(basic(true, Some(0x7f))) => Taken;
        "a root that allows none, the leaf right below": |c| {
            c.flat();
            c.roots[0].set(basic(true, Some(0)))
        } => Taken;
        "a root that allows none and has one below": |c| c.roots[0].set(basic(true, Some(0))) => Refused("form", "the root CN=root allows 0 CAs below it");
        "a root that allows one and has one below": |c| c.roots[0].set(basic(true, Some(1))) => Taken;
        "a root that allows one and has two below": |c| {
            c.deep(2);
            c.roots[0].set(basic(true, Some(1)))
        } => Refused("form", "and the chain has 2");
        "a root that allows four and has five below": |c| {
            c.deep(5);
            c.roots[0].set(basic(true, Some(4)))
        } => Refused("form", "and the chain has 5");
        "a root that allows five and has five below": |c| {
            c.deep(5);
            c.roots[0].set(basic(true, Some(5)))
        } => Taken;
        "a CA that a CA made for itself does not count at the root": |c| {
            c.roots[0].set(basic(true, Some(1)));
            c.cas[0].subject = name("issuing");
            let mut new = authority("issuing", K::Ca(0), "issuing", K::Ca(1), 9, c.now);
            new.serial = vec![9];
            c.cas.insert(0, new);
            c.leaf.by = K::Ca(1);
            c.crls.insert(0, list("issuing", K::Ca(1), c.now))
        } => Taken;
        "two roots of one name and key, the second allows enough": |c| {
            let mut short = c.roots[0].clone();
            short.set(basic(true, Some(0)));
            short.serial = vec![9];
            c.roots.insert(0, short)
        } => Taken;
        "an issuing CA as the only thing trusted that allows none": |c| {
            c.roots = vec![c.cas.remove(0)];
            c.roots[0].set(basic(true, Some(0)));
            c.crls.pop();
        } => Taken;
    }
}

pub(super) fn validity() -> Vec<Row> {
    rows! {"validity";
        "a leaf that has ended": |c| c.leaf.to = c.now - 60 => Refused("expired", "ended at");
        "a leaf that ends now": |c| { c.leaf.to = c.now + 120 } => Taken;
        "a leaf that has not begun": |c| c.leaf.from = c.now + 300 => Refused("not_yet_valid", "begins at");
        "a leaf that has just begun": |c| c.leaf.from = c.now - 1 => Taken;
        "a leaf that ends before it begins": |c| { c.leaf.from = c.now - 60; c.leaf.to = c.now - 120 } => Refused("constraint", "");
        "a CA that has ended": |c| c.cas[0].to = c.now - 60 => RefusedAtStart("expired", "ended at");
        "a CA that has not begun": |c| c.cas[0].from = c.now + 300 => Refused("not_yet_valid", "begins at");
        "a middle CA that has not begun": |c| { c.deep(2); c.cas[1].from = c.now + 300 } => Refused("not_yet_valid", "begins at");
        "a root that has not begun": |c| c.roots[0].from = c.now + 300 => Refused("not_yet_valid", "begins at");
        "a root that has not begun, beside one that has": |c| {
            let mut next = authority("next", K::Stranger, "next", K::Stranger, 9, c.now);
            next.from = c.now + 300;
            c.roots.push(next)
        } => Taken;
        "a root that has ended, beside one that has not": |c| {
            let mut old = authority("old", K::Stranger, "old", K::Stranger, 9, c.now);
            old.to = c.now - 300;
            c.roots.push(old)
        } => Taken;
        "a leaf of 2049, in two digits": |c| { c.leaf.to = 2_524_000_000; c.cas[0].to = 2_524_000_000 } => Taken;
        "a leaf until 2060, in four digits": |c| { c.leaf.to = 2_840_000_000; c.cas[0].to = 2_840_000_000 } => Taken;
        "a root from 1970": |c| c.roots[0].from = 86_400 => Taken;
        "judged a day before all of it began": |c| c.later = -2 * DAY => Refused("not_yet_valid", "begins at");
        "judged a year later": |c| c.later = 365 * DAY => Refused("expired", "ended at");
        "judged a day later": |c| c.later = DAY => Taken;
    }
}

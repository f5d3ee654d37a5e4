//! Identities, distinguished names, name constraints.

use super::rows;
use crate::judgement::Want::{Refused, Taken};
use crate::judgement::mint::{
    CLIENT, NAMES, SERVER, constraints, directory, dns, ip, mail, name, name_as, names, other_name,
    purposes, uri,
};
use crate::judgement::{GATEWAY, PLUGIN, Row};

pub(super) fn identities() -> Vec<Row> {
    const NONE: &str = "no URI name";
    const SEVERAL: &str = "more than one URI name";
    const INVALID: &str = "is no identity";
    rows! {"identities";
        "one URI": |c| c.leaf.set(names(&[uri(GATEWAY)])) => Taken;
        "one URI, critical": |c| c.leaf.set(names(&[uri(GATEWAY)]).critical(true)) => Taken;
        "one URI behind a DNS name": |c| c.leaf.set(names(&[dns("edge.lab.test"), uri(GATEWAY)])) => Taken;
        "one URI beside an address and a mailbox": |c| c.leaf.set(names(&[ip(&[127, 0, 0, 1]), mail("a@b.test"), uri(GATEWAY)])) => Taken;
        "one URI beside a directory name": |c| c.leaf.set(names(&[directory("x"), uri(GATEWAY)])) => Taken;
        "one URI beside another kind of name": |c| c.leaf.set(names(&[other_name(), uri(GATEWAY)])) => Taken;
        "no names": |c| c.leaf.unset(NAMES) => Refused("identity", NONE);
        "a DNS name only": |c| c.leaf.set(names(&[dns("edge.lab.test")])) => Refused("identity", NONE);
        "an identity as a DNS name": |c| c.leaf.set(names(&[dns(GATEWAY)])) => Refused("identity", NONE);
        "an identity as a common name": |c| {
            c.leaf.unset(NAMES);
            c.leaf.subject = name(GATEWAY)
        } => Refused("identity", NONE);
        "two URIs": |c| c.leaf.set(names(&[uri(GATEWAY), uri("spiffe://lab.test/gateway/other")])) => Refused("identity", SEVERAL);
        "one URI twice": |c| c.leaf.set(names(&[uri(GATEWAY), uri(GATEWAY)])) => Refused("identity", SEVERAL);
        "an identity and a web address": |c| c.leaf.set(names(&[uri(GATEWAY), uri("https://lab.test/")])) => Refused("identity", SEVERAL);
        "a web address": |c| c.leaf.set(names(&[uri("https://lab.test/gateway/edge")])) => Refused("identity", INVALID);
        "another scheme's spelling": |c| c.leaf.set(names(&[uri("SPIFFE://lab.test/gateway/edge")])) => Refused("identity", INVALID);
        "a domain in capitals": |c| c.leaf.set(names(&[uri("spiffe://LAB.test/gateway/edge")])) => Refused("identity", INVALID);
        "no path": |c| c.leaf.set(names(&[uri("spiffe://lab.test")])) => Refused("identity", INVALID);
        "an empty path": |c| c.leaf.set(names(&[uri("spiffe://lab.test/")])) => Refused("identity", INVALID);
        "a slash at the end": |c| c.leaf.set(names(&[uri("spiffe://lab.test/gateway/edge/")])) => Refused("identity", INVALID);
        "a third segment": |c| c.leaf.set(names(&[uri("spiffe://lab.test/gateway/edge/x")])) => Refused("identity", INVALID);
        "a star": |c| c.leaf.set(names(&[uri("spiffe://lab.test/gateway/*")])) => Refused("identity", INVALID);
        "a query": |c| c.leaf.set(names(&[uri("spiffe://lab.test/gateway/edge?x")])) => Refused("identity", INVALID);
        "a fragment": |c| c.leaf.set(names(&[uri("spiffe://lab.test/gateway/edge#x")])) => Refused("identity", INVALID);
        "a port": |c| c.leaf.set(names(&[uri("spiffe://lab.test:443/gateway/edge")])) => Refused("identity", INVALID);
        "a user": |c| c.leaf.set(names(&[uri("spiffe://me@lab.test/gateway/edge")])) => Refused("identity", INVALID);
        "an escape": |c| c.leaf.set(names(&[uri("spiffe://lab.test/gateway/%65dge")])) => Refused("identity", INVALID);
        "a dot segment": |c| c.leaf.set(names(&[uri("spiffe://lab.test/gateway/..")])) => Refused("identity", INVALID);
        "a zero byte": |c| c.leaf.set(names(&[uri("spiffe://lab.test/gateway/edge\0.evil")])) => Refused("identity", INVALID);
        "a newline": |c| c.leaf.set(names(&[uri("spiffe://lab.test/gateway/edge\n")])) => Refused("identity", INVALID);
        "a role that does not exist": |c| c.leaf.set(names(&[uri("spiffe://lab.test/admin/edge")])) => Refused("identity", INVALID);
        "an empty URI": |c| c.leaf.set(names(&[uri("")])) => Refused("identity", INVALID);
        "another trust domain": |c| c.leaf.set(names(&[uri("spiffe://other.test/gateway/edge")])) => Refused("trust_domain", "is not of our trust domain");
        "a trust domain below ours": |c| c.leaf.set(names(&[uri("spiffe://x.lab.test/gateway/edge")])) => Refused("trust_domain", "is not of our trust domain");
        "a trust domain that ours is the beginning of": |c| c.leaf.set(names(&[uri("spiffe://lab.test.evil/gateway/edge")])) => Refused("trust_domain", "is not of our trust domain");
        "a plugin where a gateway is due": |c| {
            c.leaf.set(names(&[uri(PLUGIN)]));
            c.leaf.set(purposes(&[CLIENT, SERVER]))
        } => Refused("role", "plugin/billing");
        "a gateway where a plugin is due": |c| {
            c.plugin();
            c.leaf.set(names(&[uri(GATEWAY)]));
            c.leaf.set(purposes(&[CLIENT, SERVER]))
        } => Refused("role", "gateway/edge");
    }
}

pub(super) fn distinguished() -> Vec<Row> {
    const NO_CHAIN: &str = "no chain leads";
    rows! {"distinguished names";
        "a leaf with a subject": |c| c.leaf.subject = name("edge") => Taken;
        "a leaf with its issuer's name": |c| c.leaf.subject = name("issuing") => Taken;
        "an issuer of another name": |c| c.leaf.issuer = name("issuer") => Refused("unknown_issuer", NO_CHAIN);
        "an issuer's name in other capitals": |c| c.leaf.issuer = name("Issuing") => Refused("unknown_issuer", NO_CHAIN);
        "an issuer's name with a blank": |c| c.leaf.issuer = name("issuing ") => Refused("unknown_issuer", NO_CHAIN);
        "an issuer's name in another string": |c| c.leaf.issuer = name_as(0x13, "issuing") => Refused("unknown_issuer", NO_CHAIN);
        "both names in that other string": |c| {
            c.leaf.issuer = name_as(0x13, "issuing");
            c.cas[0].subject = name_as(0x13, "issuing");
            c.crls[0].issuer = name_as(0x13, "issuing")
        } => Taken;
        "an empty issuer": |c| c.leaf.issuer = name("") => Refused("unknown_issuer", NO_CHAIN);
        "a CA of 200 letters": |c| {
            let long = "x".repeat(200);
            c.leaf.issuer = name(&long);
            c.cas[0].subject = name(&long);
            c.crls[0].issuer = name(&long)
        } => Taken;
    }
}

pub(super) fn constraints_on_names() -> Vec<Row> {
    const OUTSIDE: &str = "a name is outside what a CA is allowed to name";
    rows! {"name constraints";
        "DNS names of the domain": |c| {
            c.cas[0].set(constraints(&[dns("lab.test")], &[]));
            c.leaf.set(names(&[dns("edge.lab.test"), uri(GATEWAY)]))
        } => Taken;
        "the domain itself": |c| {
            c.cas[0].set(constraints(&[dns("lab.test")], &[]));
            c.leaf.set(names(&[dns("lab.test"), uri(GATEWAY)]))
        } => Taken;
        "a DNS name of another domain": |c| {
            c.cas[0].set(constraints(&[dns("lab.test")], &[]));
            c.leaf.set(names(&[dns("edge.evil.test"), uri(GATEWAY)]))
        } => Refused("constraint", OUTSIDE);
        "a DNS name that only ends alike": |c| {
            c.cas[0].set(constraints(&[dns("lab.test")], &[]));
            c.leaf.set(names(&[dns("evillab.test"), uri(GATEWAY)]))
        } => Refused("constraint", OUTSIDE);
        "no DNS name under a constraint on them": |c| c.cas[0].set(constraints(&[dns("lab.test")], &[])) => Taken;
        "a domain that is excluded": |c| {
            c.cas[0].set(constraints(&[], &[dns("lab.test")]));
            c.leaf.set(names(&[dns("edge.lab.test"), uri(GATEWAY)]))
        } => Refused("constraint", OUTSIDE);
        "another domain that is excluded": |c| {
            c.cas[0].set(constraints(&[], &[dns("evil.test")]));
            c.leaf.set(names(&[dns("edge.lab.test"), uri(GATEWAY)]))
        } => Taken;
        "permitted and excluded": |c| {
            c.cas[0].set(constraints(&[dns("lab.test")], &[dns("edge.lab.test")]));
            c.leaf.set(names(&[dns("edge.lab.test"), uri(GATEWAY)]))
        } => Refused("constraint", OUTSIDE);
        "an address of the net": |c| {
            c.cas[0].set(constraints(&[ip(&[10, 0, 0, 0, 255, 0, 0, 0])], &[]));
            c.leaf.set(names(&[ip(&[10, 1, 2, 3]), uri(GATEWAY)]))
        } => Taken;
        "an address of another net": |c| {
            c.cas[0].set(constraints(&[ip(&[10, 0, 0, 0, 255, 0, 0, 0])], &[]));
            c.leaf.set(names(&[ip(&[11, 1, 2, 3]), uri(GATEWAY)]))
        } => Refused("constraint", OUTSIDE);
        "all addresses excluded, as gapura-pki does": |c| {
            c.cas[0].set(constraints(&[dns("lab.test")], &[ip(&[0; 8]), ip(&[0; 32])]));
            c.leaf.set(names(&[ip(&[127, 0, 0, 1]), uri(GATEWAY)]))
        } => Refused("constraint", OUTSIDE);
        "all addresses excluded and none named": |c| {
            c.cas[0].set(constraints(&[dns("lab.test")], &[ip(&[0; 8]), ip(&[0; 32])]));
            c.leaf.set(names(&[dns("edge.lab.test"), uri(GATEWAY)]))
        } => Taken;
        "a constraint of the root's": |c| {
            c.roots[0].set(constraints(&[dns("lab.test")], &[]));
            c.leaf.set(names(&[dns("edge.evil.test"), uri(GATEWAY)]))
        } => Refused("constraint", OUTSIDE);
        "a constraint of the root's that is met": |c| {
            c.roots[0].set(constraints(&[dns("lab.test")], &[]));
            c.leaf.set(names(&[dns("edge.lab.test"), uri(GATEWAY)]))
        } => Taken;
        "a constraint of a CA two levels up": |c| {
            c.deep(2);
            c.cas[1].set(constraints(&[dns("lab.test")], &[]));
            c.leaf.set(names(&[dns("edge.evil.test"), uri(GATEWAY)]))
        } => Refused("constraint", OUTSIDE);
        "a wider constraint below a narrower": |c| {
            c.deep(2);
            c.cas[1].set(constraints(&[dns("a.lab.test")], &[]));
            c.cas[0].set(constraints(&[dns("lab.test")], &[]));
            c.leaf.set(names(&[dns("b.lab.test"), uri(GATEWAY)]))
        } => Refused("constraint", OUTSIDE);
        "a constraint on directory names that is met": |c| {
            c.cas[0].set(constraints(&[tree("edge")], &[]));
            c.leaf.subject = name("edge")
        } => Refused("constraint", "");
        "a constraint on directory names that is not met": |c| {
            c.cas[0].set(constraints(&[tree("edge")], &[]));
            c.leaf.subject = name("other")
        } => Refused("constraint", "");
        "a constraint on URIs": |c| c.cas[0].set(constraints(&[uri("lab.test")], &[])) => Refused("constraint", OUTSIDE);
        "an excluded host of URIs": |c| c.cas[0].set(constraints(&[], &[uri("evil.test")])) => Refused("constraint", OUTSIDE);
    }
}

fn tree(cn: &str) -> Vec<u8> {
    directory(cn)
}

//! A mesh directory: what a gateway or sidecar reads, published as one generation by one rename.
//!
//! ```text
//! DIR/gen-000007/{cert,key,ca,crl}.pem     a whole set, never changed once it has its name
//! DIR/current -> gen-000007                the one rename
//! DIR/cert.pem -> current/cert.pem         stable names, likewise key.pem, ca.pem, crl.pem
//! ```
//! In: the four contents. Out: a generation. The directory often belongs to the sidecar's user
//! while we are root, so everything here goes through [`HeldDir`]: a generation is filled in a
//! folder of our own, 0700, inside the directory (a rename from elsewhere would cross file systems
//! where each is a volume), and given to the directory's owner by its handles, the folder last.
//! Invariant: whoever reads through the stable names meets nothing, or one whole set; and of what
//! is there we take nothing but what a generation of that directory holds, the key only where it is
//! the key of the leaf beside it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use rustix::fs::FileType;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::gate::GateRef;
use crate::held_dir::{Access, DirError, Durability, HeldDir, UNFINISHED, generation};
use crate::pem::{self, PemError};

/// Old generations stay this many publications long, for readers that resolved the link a moment
/// ago and for a look back.
const KEPT: usize = 3;
const STABLE: [&str; 4] = ["cert.pem", "key.pem", "ca.pem", "crl.pem"];

/// What one generation holds.
pub struct Content {
    /// Leaf, then intermediates.
    pub cert: String,
    /// The leaf's key; absent where a CSR brought the public half only.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// The trusted roots.
    pub ca: String,
    /// A CRL of every CA whose certificates may be met.
    pub crl: String,
}

impl Content {
    /// Tells one content's public part from another's.
    #[must_use]
    pub fn print(&self) -> String {
        print([
            self.cert.as_bytes(),
            self.ca.as_bytes(),
            self.crl.as_bytes(),
        ])
    }
}

/// Tells roots and CRLs, as PEM, from others.
pub fn trust_print(ca: &[u8], crl: &[u8]) -> String {
    print([b"", ca, crl])
}

fn print(parts: [&[u8]; 3]) -> String {
    sha256_hex(parts.map(sha256_hex).join(" ").as_bytes())
}

/// A generation that is on the disk and has no name yet. Dropping it removes it, unless it was to
/// be published: then the next holder of the lock finds it and brings it to its end.
#[derive(Debug)]
pub struct Staged {
    dir: PathBuf,
    identity: (u64, u64),
    fresh: String,
    print: String,
    has_key: bool,
    durability: Durability,
    stays: bool,
    gate: GateRef,
}

/// Writes and syncs the next generation of `dir` without showing it to anyone.
pub fn stage(
    dir: &Path,
    content: &Content,
    durability: Durability,
    gate: GateRef,
) -> Result<Staged, DirError> {
    stage_in(&HeldDir::create(dir, gate)?, content, durability)
}

/// The same in a directory that is open already.
pub fn stage_in(
    held: &HeldDir,
    content: &Content,
    durability: Durability,
) -> Result<Staged, DirError> {
    sweep(held)?; // of a run that died: only the holder of the CA's lock writes here
    let (fresh, folder) = held.hidden_child()?;
    let staged = Staged {
        dir: held.path().to_owned(),
        identity: held.identity(),
        fresh,
        print: content.print(),
        has_key: content.key.is_some(),
        durability,
        stays: false,
        gate: held.gate(),
    };
    let write = |name, bytes, access| folder.write_new(name, bytes, access, durability);
    write("cert.pem", content.cert.as_bytes(), Access::Everyone)?;
    write("ca.pem", content.ca.as_bytes(), Access::Everyone)?;
    write("crl.pem", content.crl.as_bytes(), Access::Everyone)?;
    if let Some(key) = &content.key {
        write("key.pem", key, Access::Owner)?;
    }
    if durability == Durability::Now {
        folder.sync()?;
    }
    folder.give_away()?;
    Ok(staged)
}

impl Staged {
    /// From here on it is not removed when it is dropped: the inventory knows of it.
    pub fn stays(&mut self) {
        self.stays = true;
    }

    /// Makes it the current generation and says its number.
    pub fn publish(mut self) -> Result<u64, DirError> {
        self.stays();
        let dir = HeldDir::open(&self.dir, self.gate)?
            .filter(|dir| dir.identity() == self.identity)
            .ok_or_else(|| exchanged(&self.dir))?;
        let number = advance(&dir, &self.fresh, self.has_key)?;
        if self.durability == Durability::Now {
            dir.sync()?;
        }
        prune(&dir)?;
        // Its owner may have meddled all the while; what is said to be published has to be what is
        // there.
        let shown = shown(&dir)?.ok_or_else(|| exchanged(&self.dir))?;
        if shown.generation != Some(number) || shown.print() != self.print {
            return Err(exchanged(&self.dir));
        }
        Ok(number)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.stays
            && let Ok(Some(dir)) = HeldDir::open(&self.dir, self.gate)
            && dir.identity() == self.identity
        {
            let _ = dir.remove(&self.fresh); // the next run sweeps
        }
    }
}

fn exchanged(dir: &Path) -> DirError {
    DirError::Failed(format!(
        "{} was changed by somebody else while it was written; see who works in it, then run it again",
        dir.display()
    ))
}

/// Makes the unnamed generation `fresh`, or one that has its name, the current one and says its
/// number.
pub fn advance(dir: &HeldDir, fresh: &str, has_key: bool) -> Result<u64, DirError> {
    let number = match generation(OsStr::new(fresh)) {
        Some(number) => number,
        None => {
            let last = generations(dir)?.last().copied().unwrap_or(0);
            let number = last.checked_add(1).ok_or_else(|| exchanged(dir.path()))?;
            dir.rename(fresh, &name_of(number))?;
            number
        }
    };
    // In a new directory the stable names come first and lead nowhere until `current` is there;
    // over plain files, as another tool may have left them, they come last.
    stable_names(dir, has_key, false)?;
    dir.relink("current", &name_of(number))?;
    stable_names(dir, has_key, true)?;
    Ok(number)
}

/// The stable names, if any is missing: of a run that died before it had them all.
pub fn complete(dir: &HeldDir, has_key: bool) -> Result<(), DirError> {
    stable_names(dir, has_key, false)?;
    stable_names(dir, has_key, true)
}

fn stable_names(dir: &HeldDir, has_key: bool, over_files: bool) -> Result<(), DirError> {
    // Without a key of our own the one that is there, or will be brought, stays what it is.
    for file in STABLE
        .into_iter()
        .filter(|file| has_key || *file != "key.pem")
    {
        let target = format!("current/{file}");
        let is_file = dir
            .kind(file)?
            .is_some_and(|kind| kind != FileType::Symlink);
        if is_file == over_files && dir.link(file)?.as_deref() != Some(OsStr::new(&target)) {
            dir.relink(file, &target)?;
        }
    }
    Ok(())
}

fn name_of(number: u64) -> String {
    format!("gen-{number:06}")
}

fn prune(dir: &HeldDir) -> Result<(), DirError> {
    let (all, current) = (generations(dir)?, dir.link("current")?);
    for number in all.iter().take(all.len().saturating_sub(KEPT)) {
        let name = name_of(*number);
        if current.as_deref() != Some(OsStr::new(&name)) {
            dir.remove(&name)?;
        }
    }
    Ok(())
}

/// Removes what runs that died left unfinished. Only ever called by the holder of the CA's lock.
pub fn sweep(dir: &HeldDir) -> Result<(), DirError> {
    for name in dir.names()? {
        if name.starts_with(UNFINISHED) {
            dir.remove(&name)?;
        }
    }
    Ok(())
}

/// The generations of `dir`, oldest first.
pub fn generations(dir: &HeldDir) -> Result<Vec<u64>, DirError> {
    let mut found: Vec<u64> = dir
        .names()?
        .iter()
        .filter_map(|name| generation(OsStr::new(name)))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// What a mesh directory shows at present.
pub struct Current {
    /// The certificates in `cert.pem`.
    pub chain: Vec<CertificateDer<'static>>,
    /// The certificates in `ca.pem`.
    pub roots: Vec<CertificateDer<'static>>,
    /// The CRLs in `crl.pem`.
    pub crls: Vec<Vec<u8>>,
    /// The leaf's key, if it is there.
    pub key: Option<Zeroizing<Vec<u8>>>,
    /// The mode of `key.pem`, whosesoever key it is.
    pub key_mode: Option<u32>,
    /// Which generation this is; `None` where plain files stand in the directory.
    pub generation: Option<u64>,
    /// `cert.pem`, `ca.pem` and `crl.pem` as they are.
    pub raw: [Vec<u8>; 3],
}

impl Current {
    /// SHA-256 of the leaf.
    pub fn fingerprint(&self) -> Option<String> {
        self.chain.first().map(|leaf| sha256_hex(leaf))
    }

    /// Tells the public part from another's, as `Content::print` does.
    pub fn print(&self) -> String {
        let [cert, ca, crl] = &self.raw;
        print([cert, ca, crl])
    }

    /// Tells its roots and CRLs from others.
    pub fn trust(&self) -> String {
        let [_, ca, crl] = &self.raw;
        trust_print(ca, crl)
    }

    /// Whether there is a `key.pem` that is not the leaf's.
    pub fn has_wrong_key(&self) -> bool {
        self.key.is_none() && self.key_mode.is_some()
    }
}

/// What `dir` shows through `current`, or as plain files where no generation was ever published.
pub fn shown(dir: &HeldDir) -> Result<Option<Current>, DirError> {
    let path = dir.path().join("current");
    match dir.link("current")? {
        Some(target) if generation(&target).is_some() => {
            let name = target.to_string_lossy().into_owned();
            match dir.child(&name)? {
                Some(folder) => read(&folder, dir),
                None => Ok(None),
            }
        }
        Some(target) => Err(DirError::damaged(
            &path,
            format!(
                "it leads to {}, and nothing but a generation beside it (gen-NNNNNN) is followed. Take it away and run `gapura-pki renew` for what belongs there",
                target.display()
            ),
        )),
        None if dir.kind("current")?.is_some() => Err(DirError::damaged(
            &path,
            "this is no link to a generation; take it away",
        )),
        None => match dir.link("..data")? {
            // A set that Kubernetes mounted: the same rules, another name.
            Some(target) => match data_folder(&target) {
                Some(name) => match dir.child(name)? {
                    Some(folder) => read(&folder, dir),
                    None => Ok(None),
                },
                None => Err(DirError::damaged(
                    &dir.path().join("..data"),
                    "it leads out of this directory; take it away",
                )),
            },
            None => read(dir, dir),
        },
    }
}

/// The folder that a mount's `..data` may lead to: a plain name beside it, of the form that
/// Kubernetes gives.
fn data_folder(target: &OsStr) -> Option<&str> {
    let name = target.to_str()?;
    (name.len() > 2 && name.starts_with("..") && !name.contains('/')).then_some(name)
}

/// Reads one generation, or the directory itself.
fn read(folder: &HeldDir, dir: &HeldDir) -> Result<Option<Current>, DirError> {
    let file = |name: &str| match folder.link(name)? {
        // A stable name whose generation is gone.
        Some(target) if target == format!("current/{name}").as_str() => Ok(None),
        _ => Ok::<_, DirError>(folder.read(name)?),
    };
    let Some((cert, _)) = file("cert.pem")? else {
        return Ok(None);
    };
    let damaged = |name: &str| {
        let path = folder.path().join(name);
        move |why: String| DirError::damaged(&path, why)
    };
    let (ca, crl) = (file("ca.pem")?, file("crl.pem")?);
    let (ca, crl) = (
        ca.map(|(bytes, _)| bytes).unwrap_or_default(),
        crl.map(|(bytes, _)| bytes).unwrap_or_default(),
    );
    let why = |why: PemError| why.to_string();
    let chain = pem::certificates(&cert)
        .map_err(why)
        .map_err(damaged("cert.pem"))?;
    let roots = match ca.is_empty() {
        true => Vec::new(),
        false => pem::certificates(&ca)
            .map_err(why)
            .map_err(damaged("ca.pem"))?,
    };
    let crls = match pem::crls(&crl) {
        Ok(found) => found.iter().map(|der| der.to_vec()).collect(),
        Err(PemError::Nothing { .. }) => Vec::new(),
        Err(fault) => return Err(damaged("crl.pem")(fault.to_string())),
    };
    let key = match file("key.pem")? {
        // One that was brought after a CSR, and not yet taken into a generation.
        None if folder.identity() != dir.identity() => match dir.kind("key.pem")? {
            Some(FileType::RegularFile) => dir.read("key.pem")?,
            _ => None,
        },
        found => found,
    };
    let key_mode = key.as_ref().map(|(_, mode)| *mode);
    let key = key
        .map(|(key, _)| Zeroizing::new(key))
        .filter(|key| chain.first().is_some_and(|leaf| is_key_of(key, leaf)));
    Ok(Some(Current {
        chain,
        roots,
        crls,
        key,
        key_mode,
        generation: folder
            .path()
            .file_name()
            .filter(|_| folder.identity() != dir.identity())
            .and_then(generation),
        raw: [cert, ca, crl],
    }))
}

/// A whole generation beyond `current` that shows the leaf with that fingerprint: named or not yet,
/// of a run that died. One before it was current once, and an inventory that is older than the
/// directory must not bring it back.
pub fn half_made(
    dir: &HeldDir,
    current: Option<u64>,
    fingerprint: &str,
    without_key: bool,
) -> Result<Option<(String, Current)>, DirError> {
    let mut names = dir.names()?;
    names.sort_unstable_by(|one, other| other.cmp(one)); // the newest generation first, the unnamed ones last
    for name in names {
        let number = generation(OsStr::new(&name));
        if !name.starts_with(UNFINISHED) && number.is_none_or(|number| Some(number) <= current) {
            continue;
        }
        // What can't be read is not whole.
        let Ok(Some(folder)) = dir.child(&name) else {
            continue;
        };
        let Ok(Some(found)) = read(&folder, dir) else {
            continue;
        };
        let whole = !found.roots.is_empty() && !found.crls.is_empty();
        let keyed = found.key.is_some() || (without_key && !found.has_wrong_key());
        if whole && keyed && found.fingerprint().as_deref() == Some(fingerprint) {
            return Ok(Some((name, found)));
        }
    }
    Ok(None)
}

/// Whether anything was ever published in `dir`.
pub fn is_used(dir: &HeldDir) -> Result<bool, DirError> {
    Ok(!generations(dir)?.is_empty())
}

/// Whether `pem` holds the private key of the certificate `leaf`.
fn is_key_of(pem: &[u8], leaf: &CertificateDer<'static>) -> bool {
    let key = pem::private_key(pem).ok();
    let key = key.and_then(|key| any_supported_type(&key).ok());
    key.is_some_and(|key| {
        CertifiedKey::new(vec![leaf.clone()], key)
            .keys_match()
            .is_ok()
    })
}

/// SHA-256 in hexadecimal.
fn sha256_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest(&SHA256, bytes).as_ref() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

//! What one entry of a step may do: what the manifest asks, the operator grants and the workflow leaves of it.

use std::net::IpAddr;
use std::sync::Arc;

use super::grants::{Grants, SecretsGrant, ToolsGrant, means_tool};
use super::host::is_public;
use super::{Capability, Package};

/// The three parties' words on one entry. A thing is allowed if nobody's word is against it and it was asked for and granted.
#[derive(Clone, Debug)]
pub struct Effective {
    package: Arc<Package>,
    granted: Arc<Grants>,
    narrowed: Option<Arc<Grants>>,
}

/// Something that is not allowed: the message is the line to add, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(pub String);

impl Effective {
    /// The manifest's asks with the operator's grants and the workflow's narrowing; `None` narrows nothing.
    pub fn new(package: Arc<Package>, granted: Arc<Grants>, narrowed: Option<Arc<Grants>>) -> Self {
        Self { package, granted, narrowed }
    }

    /// The package it is about.
    pub fn package(&self) -> &Package {
        &self.package
    }

    /// Whether a capability is there at all.
    pub fn check(&self, capability: Capability) -> Result<(), Denied> {
        let name = capability.as_str();
        self.each(name, |grants| grants.has(capability))
    }

    /// Asks the three in turn; `grant` is the line to add, in its short form.
    fn each(&self, grant: &str, allows: impl Fn(&Grants) -> bool) -> Result<(), Denied> {
        self.each_party(grant, |_, grants| allows(grants))
    }

    fn each_party(&self, grant: &str, allows: impl Fn(Party, &Grants) -> bool) -> Result<(), Denied> {
        let id = &self.package.id;
        let capability = grant.split_once(':').map_or(grant, |(name, _)| name);
        let Some(party) = self.parties().find(|(party, grants)| !allows(*party, grants)).map(|(party, _)| party) else {
            return Ok(());
        };
        Err(Denied(match party {
            Party::Manifest => format!(
                "capability '{capability}' is not asked for by plugin '{id}': add \"{grant}\" to capabilities in its caisson-plugin.toml"
            ),
            Party::Operator => format!(
                "capability '{capability}' is not granted to plugin '{id}': add the grant \"{grant}\" with `caisson plugin grant {id} {grant}`, or under [{id}] in plugins.toml"
            ),
            Party::Workflow => format!(
                "capability '{capability}' is not left to this step by the workflow: add \"{grant}\" to the state's 'capabilities'"
            ),
        }))
    }

    fn parties(&self) -> impl Iterator<Item = (Party, &Grants)> {
        let narrowed = self.narrowed.as_deref().map(|narrowed| (Party::Workflow, narrowed));
        [Some((Party::Manifest, &self.package.asks)), Some((Party::Operator, &*self.granted)), narrowed]
            .into_iter()
            .flatten()
    }

    /// Whether a request may go to that host: scheme, name and port, and the method. Says nothing of addresses yet.
    pub fn http(&self, tls: bool, host: &str, port: u16, method: &str) -> Result<(), Denied> {
        let shown = shown(tls, host, port);
        // The line to add is the narrowest that will do, even where the whole capability is missing.
        self.each(&format!("http:{shown}"), |grants| {
            grants.http.as_ref().is_some_and(|http| {
                http.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(|pattern| pattern.matches(tls, host, port)))
            })
        })?;
        let refuses = |(_, grants): &(Party, &Grants)| {
            let methods = grants.http.as_ref().and_then(|http| http.methods.as_ref());
            methods.is_some_and(|methods| !methods.iter().any(|one| one.eq_ignore_ascii_case(method)))
        };
        let Some((party, _)) = self.parties().find(refuses) else { return Ok(()) };
        let id = &self.package.id;
        Err(Denied(match party {
            Party::Manifest => format!(
                "method {method} is not asked for by plugin '{id}': add \"{method}\" to methods under [capabilities.http] in its caisson-plugin.toml"
            ),
            Party::Operator => {
                format!(
                    "method {method} is not granted to plugin '{id}': add \"{method}\" to http.methods of its grants"
                )
            }
            Party::Workflow => format!(
                "method {method} is not left to this step by the workflow: add \"{method}\" to http.methods of the state's 'capabilities'"
            ),
        }))
    }

    /// Whether a resolved address may be dialled for that host: public, or private and granted by the operator.
    pub fn address(&self, tls: bool, host: &str, port: u16, address: IpAddr) -> Result<(), Denied> {
        let address = address.to_canonical();
        if is_public(address) {
            return Ok(());
        }
        let http = self.granted.http.as_ref();
        let by_name = http.and_then(|http| http.hosts.as_ref()).is_some_and(|hosts| {
            hosts.iter().any(|pattern| pattern.names_private() && pattern.matches(tls, host, port))
        });
        // An address names itself, and `localhost` this machine and nothing else.
        let by_name =
            by_name && host.parse::<IpAddr>().map_or(address.is_loopback(), |host| host.to_canonical() == address);
        if by_name || http.is_some_and(|http| http.private.iter().any(|range| range.contains(address))) {
            return Ok(());
        }
        Err(Denied(format!(
            "'{host}' is at {address}, a private address: add \"{address}\" to http.private of the grants of plugin '{}' if that is meant",
            self.package.id
        )))
    }

    /// Whether the guest may read a secret.
    pub fn secret(&self, name: &str) -> Result<(), Denied> {
        self.each_party(&format!("secrets:{name}"), |party, grants| {
            grants.secrets.as_ref().is_some_and(|secrets| party.is_silent(secrets) || reads(secrets, name))
        })
    }

    /// Whether the host may fill a secret into that header of a request to that host. Who may read a secret may have it filled in anywhere. A
    /// manifest may leave secrets and headers to the operator by asking for `*`; then the operator has to name them.
    pub fn inject(&self, name: &str, header: &str, tls: bool, host: &str, port: u16) -> Result<(), Denied> {
        self.check(Capability::Secrets)?;
        let Some(party) = self.refuses_to_fill_in(name, Some(header), tls, host, port) else { return Ok(()) };
        let shown = shown(tls, host, port);
        let place = match party {
            Party::Manifest => "under [capabilities.secrets] in its caisson-plugin.toml",
            Party::Operator => "under secrets of its grants",
            Party::Workflow => "under secrets of the state's 'capabilities'",
        };
        Err(Denied(format!(
            "secret '{name}' may not be filled into header '{header}' for '{shown}' by plugin '{}': add {{secret: \"{name}\", headers: [\"{header}\"], hosts: [\"{shown}\"]}} to inject {place}",
            self.package.id
        )))
    }

    /// Whether a secret that the guest must not read may be filled into any header of a request to that host: then an answer must not come in a
    /// disguise in which that secret could not be found.
    pub fn hides(&self, tls: bool, host: &str, port: u16) -> bool {
        self.secret_names()
            .iter()
            .any(|name| self.secret(name).is_err() && self.refuses_to_fill_in(name, None, tls, host, port).is_none())
    }

    /// Who is against it; no header means any.
    fn refuses_to_fill_in(&self, name: &str, header: Option<&str>, tls: bool, host: &str, port: u16) -> Option<Party> {
        let rule = |party: Party, secrets: &SecretsGrant| {
            let any = |one: &str| party == Party::Manifest && one == ANY;
            secrets.inject.iter().flatten().any(|inject| {
                (inject.secret == name || any(&inject.secret))
                    && header.is_none_or(|header| {
                        inject.headers.iter().any(|one| one.eq_ignore_ascii_case(header) || any(one))
                    })
                    && inject.hosts.iter().any(|pattern| pattern.matches(tls, host, port))
            })
        };
        let asked_by_name = self.package.asks.secrets.as_ref().is_some_and(|asked| {
            reads(asked, name) || asked.inject.iter().flatten().any(|inject| inject.secret == name)
        });
        let refuses = |(party, grants): &(Party, &Grants)| {
            !grants.secrets.as_ref().is_some_and(|secrets| {
                let silent = party.is_silent(secrets) && (asked_by_name || *party == Party::Workflow);
                silent || reads(secrets, name) || rule(*party, secrets)
            })
        };
        self.parties().find(refuses).map(|(party, _)| party)
    }

    /// Names of all secrets that the plugin may read or have filled in somewhere: what has to be redacted in whatever it writes, even where the
    /// workflow narrows it. Not those that it asks for in vain: it could guess at them by what is redacted.
    pub fn secret_names(&self) -> Vec<String> {
        let Some(asked) = &self.package.asks.secrets else { return Vec::new() };
        let Some(granted) = &self.granted.secrets else { return Vec::new() };
        let named = |secrets: &'_ SecretsGrant| -> Vec<String> {
            let filled = secrets.inject.iter().flatten().map(|inject| inject.secret.clone());
            secrets.names.iter().flatten().cloned().chain(filled).collect()
        };
        let (asks, grants) = (named(asked), named(granted));
        let open = asks.iter().any(|name| name == ANY);
        let silent = Party::Operator.is_silent(granted);
        let left = asks.into_iter().filter(|name| name != ANY && (silent || grants.contains(name)));
        let mut names: Vec<String> = left.chain(grants.iter().filter(|_| open).cloned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether a business event of that name may be emitted.
    pub fn event(&self, name: &str) -> Result<(), Denied> {
        let means = |one: &str| one.strip_suffix('*').map_or(one == name, |prefix| name.starts_with(prefix));
        self.each(&format!("events:{name}"), |grants| {
            grants
                .events
                .as_ref()
                .is_some_and(|events| events.names.as_ref().is_none_or(|names| names.iter().any(|one| means(one))))
        })
    }

    /// Whether the model of that agent may be called.
    pub fn agent(&self, name: &str) -> Result<(), Denied> {
        self.each(&format!("model:{name}"), |grants| {
            grants
                .model
                .as_ref()
                .is_some_and(|model| model.agents.as_ref().is_none_or(|agents| agents.iter().any(|one| one == name)))
        })
    }

    /// Whether that tool may be called, by its name with its server's: `SERVER.TOOL`.
    pub fn tool(&self, name: &str) -> Result<(), Denied> {
        self.each(&format!("tools:{name}"), |grants| grants.tools.as_ref().is_some_and(|tools| leaves(tools, name)))
    }

    /// Whether anything of that tool server may be called.
    pub fn tool_server(&self, server: &str) -> bool {
        let some = |tools: &ToolsGrant| {
            tools.names.as_ref().is_none_or(|names| {
                names.iter().any(|one| one == ANY || one.split_once('.').is_some_and(|(of, _)| of == server))
            })
        };
        self.parties().all(|(_, grants)| grants.tools.as_ref().is_some_and(some))
    }

    /// The smallest of the numbers that the parties name, and the host's own where none does.
    pub fn least(&self, default: u64, number: impl Fn(&Grants) -> Option<u64>) -> u64 {
        // The operator may lift the host's default; manifest and workflow can only lower.
        let operator = number(&self.granted).unwrap_or(default);
        let others = [Some(&self.package.asks), self.narrowed.as_deref()].into_iter().flatten().filter_map(number);
        others.fold(operator, u64::min)
    }
}

/// What a manifest writes where it leaves a secret or a header to the operator; of tools, all there are.
const ANY: &str = "*";

/// Whose word it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Party {
    Manifest,
    Operator,
    Workflow,
}

impl Party {
    /// Who says nothing of names restricts nothing; a manifest has to name what it wants.
    fn is_silent(self, secrets: &SecretsGrant) -> bool {
        self != Self::Manifest && secrets.names.is_none() && secrets.inject.is_none()
    }
}

fn leaves(tools: &ToolsGrant, name: &str) -> bool {
    tools.names.as_ref().is_none_or(|names| names.iter().any(|one| means_tool(one, name)))
}

fn reads(secrets: &SecretsGrant, name: &str) -> bool {
    secrets.names.iter().flatten().any(|one| one == name)
}

/// A host as grants name it: with its port, unless that goes without saying.
fn shown(tls: bool, host: &str, port: u16) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    if port == if tls { 443 } else { 80 } { host } else { format!("{host}:{port}") }
}

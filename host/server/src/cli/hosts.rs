//! `caisson hosts`

use reqwest::Method;

use super::output::{Style, Table, json_line, moment};
use super::{Connection, Outcome};
use crate::api::hosts::{HostList, HostView};
use crate::client::Payload;

pub async fn execute(connection: &Connection) -> anyhow::Result<Outcome> {
    let client = connection.client()?;
    let text = client.send(Method::GET, "/hosts", &[], Payload::Empty).await?;
    if connection.json {
        json_line(&text);
        return Ok(Outcome::Done);
    }
    let list: HostList = client.parse(&text)?;
    let mut table = Table::new(Style::stdout(), &["ID", "NAME", "VERSION", "STATE", "RUNNING", "STARTED", "SEEN"]);
    for host in &list.hosts {
        let running = format!("{}/{}", host.running, host.slots);
        table.row([
            &host.id,
            &host.name,
            &host.version,
            state(host),
            &running,
            &moment(&host.started_at),
            &moment(&host.seen_at),
        ]);
    }
    table.print();
    Ok(Outcome::Done)
}

fn state(host: &HostView) -> &'static str {
    match (host.alive, host.draining) {
        (false, _) => "gone",
        (true, true) => "draining",
        (true, false) => "alive",
    }
}

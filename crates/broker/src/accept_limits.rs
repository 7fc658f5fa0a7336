//! How many connections are accepted, and from whom.
//!
//! Input: `max.connections`, `max.connections.per.ip` and its overrides, as they change. Output:
//! the limits that acceptors look at.
//!
//! Invariants:
//! - changes take effect in their order: one task follows them;
//! - a name that cannot be looked up has no limit of its own, and holds up nothing but those that
//!   come after it, for [`LOOK_UP_MAX`] at most.
//!
//! Source: Kafka's `ConnectionQuotas`, which looks names up once, too; here all addresses of a name
//! count.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use skein_config::NetworkConfig;
use skein_env::Env;
use skein_net::AcceptLimits;

use crate::node::Shared;

/// How long the look-up of a name may take.
const LOOK_UP_MAX: Duration = Duration::from_secs(5);

/// The limits that hold before any name is looked up.
pub(crate) fn of_addresses(network: &NetworkConfig) -> AcceptLimits {
    let overrides = network.max_connections_per_ip_overrides.iter();
    let of_addresses =
        overrides.filter_map(|(host, limit)| Some((address(host)?, *limit as usize)));
    with_overrides(network, of_addresses.collect())
}

/// Follows the settings.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut settings = shared.settings.subscribe();
    loop {
        let network = Arc::clone(&settings.borrow_and_update().network);
        let limits = look_up_all(&shared.env, &network).await;
        shared.accept_limits.send_replace(limits);
        if settings.changed().await.is_err() {
            return;
        }
    }
}

async fn look_up_all(env: &Env, network: &NetworkConfig) -> AcceptLimits {
    let mut overrides = BTreeMap::new();
    for (host, limit) in &network.max_connections_per_ip_overrides {
        for ip in look_up(env, host).await {
            overrides.insert(ip, *limit as usize);
        }
    }
    with_overrides(network, overrides)
}

async fn look_up(env: &Env, host: &str) -> Vec<IpAddr> {
    if let Some(address) = address(host) {
        return vec![address];
    }
    let found = tokio::time::timeout(LOOK_UP_MAX, env.net.look_up(host)).await;
    let reason = match found {
        Ok(Ok(found)) => return found.iter().map(IpAddr::to_canonical).collect(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {} s", LOOK_UP_MAX.as_secs()),
    };
    let key = "max.connections.per.ip.overrides";
    tracing::warn!(
        host,
        reason,
        "cannot look up a host of {key}: it has no limit of its own"
    );
    Vec::new()
}

fn address(host: &str) -> Option<IpAddr> {
    let ip: IpAddr = host.parse().ok()?;
    Some(ip.to_canonical())
}

fn with_overrides(network: &NetworkConfig, overrides: BTreeMap<IpAddr, usize>) -> AcceptLimits {
    AcceptLimits {
        max_connections: network.max_connections as usize,
        max_connections_per_ip: network.max_connections_per_ip as usize,
        per_ip_overrides: Arc::new(overrides),
    }
}

#[cfg(test)]
mod tests {
    use skein_env::sim::SimWorld;
    use tokio::time::sleep;

    use super::*;
    use crate::testing::{HOST, Node, config};

    const KEY: &str = "max.connections.per.ip.overrides";

    #[test]
    fn overrides_name_addresses_and_hosts_and_change_while_the_node_runs() {
        let world = SimWorld::new(1);
        let config = config(
            &world,
            &["max.connections.per.ip.overrides=10.9.9.9:3,::1:4"],
        );
        let _ = world.node("other");
        world.block_on(async {
            let node = Node::start(world.node(HOST), &config).await;
            let overrides = || {
                let limits = node.shared().accept_limits.borrow();
                limits
                    .per_ip_overrides
                    .iter()
                    .map(|(ip, limit)| (*ip, *limit))
                    .collect::<Vec<_>>()
            };
            let ip = |text: &str| text.parse::<IpAddr>().unwrap();
            assert_eq!(overrides(), [(ip("10.9.9.9"), 3), (ip("::1"), 4)]);
            // A mapped address is the address; a name that nobody knows does no harm.
            let value = "nobody:1,other:5,::ffff:10.9.9.9:6";
            node.alter_broker("", KEY, value).await;
            sleep(Duration::from_secs(1)).await;
            let expected = [(world.address("other"), 5), (ip("10.9.9.9"), 6)];
            assert_eq!(overrides(), expected);
            node.alter_broker("", KEY, "").await;
            sleep(Duration::from_secs(1)).await;
            assert_eq!(overrides(), []);
        });
    }
}

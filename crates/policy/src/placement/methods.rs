//! The methods of balancing: each takes one of the servers that are fit, which come in the order of their names.

use super::{Host, NEAR_BEST, Request};
use crate::words;
use model::ServerId;
use model::settings::BalanceMethod;

/// The server that the method of the request takes; none where nobody is fit.
pub(super) fn choose(request: &Request<'_>, fit: &[Host<'_>]) -> Option<ServerId> {
    let chosen = match request.method {
        BalanceMethod::LeastLoad => least_load(fit, request.draw),
        BalanceMethod::LeastSessions => {
            let least = fit.iter().map(Host::sessions).min()?;
            let least: Vec<_> = fit.iter().filter(|host| host.sessions() == least).collect();
            pick(&least, request.draw).copied()
        }
        BalanceMethod::RoundRobin => round_robin(fit, request.last),
        BalanceMethod::RandomTwo => random_two(fit, request.draw),
    }?;
    Some(chosen.server.id)
}

fn pick<T>(items: &[T], draw: u64) -> Option<&T> {
    let place = draw.checked_rem(words::len(items.len()))?;
    items.get(usize::try_from(place).ok()?)
}

/// Draws among those near the least load. The weight is the power times how far a server is below the worst of them.
fn least_load<'h, 'a>(fit: &'h [Host<'a>], draw: u64) -> Option<&'h Host<'a>> {
    let least = fit.iter().map(Host::load_figure).min()?;
    let weight = |host: &Host<'_>| {
        let above = host.load_figure() - least;
        let room = (NEAR_BEST + 1).saturating_sub(above);
        u128::from(host.power()) * u128::from(room)
    };
    let total: u128 = fit.iter().map(weight).sum();
    let mut place = u128::from(draw).checked_rem(total)?;
    for host in fit {
        let weight = weight(host);
        if place < weight {
            return Some(host);
        }
        place -= weight;
    }
    None
}

/// The one after the last that was chosen, by id, so that it goes on in order when servers come and go.
fn round_robin<'h, 'a>(fit: &'h [Host<'a>], last: Option<ServerId>) -> Option<&'h Host<'a>> {
    let after = fit
        .iter()
        .filter(|host| last.is_none_or(|last| host.server.id > last));
    let first = fit.iter().min_by_key(|host| host.server.id);
    after.min_by_key(|host| host.server.id).or(first)
}

fn random_two<'h, 'a>(fit: &'h [Host<'a>], draw: u64) -> Option<&'h Host<'a>> {
    let count = words::len(fit.len());
    let first = draw.checked_rem(count)?;
    let one = fit.get(usize::try_from(first).ok()?)?;
    let Some(step) = (draw / count).checked_rem(count - 1) else {
        return Some(one);
    };
    let second = (first + 1 + step) % count;
    let other = fit.get(usize::try_from(second).ok()?)?;
    Some(if other.load_figure() < one.load_figure() {
        other
    } else {
        one
    })
}

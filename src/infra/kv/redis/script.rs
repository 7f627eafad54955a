//! What has to happen in one step, as scripts that the server runs whole. They go by the server's clock.
//!
//! Each is sent with its text every time: it is short, and a server that was restarted needs no second try.

use redis::Cmd;

use crate::infra::kv::rate::{Limit, SLICES};

/// `KEYS`: the value. `ARGV`: 1 when a value is expected, the expected value, the new value, its milliseconds.
const COMPARE_AND_SET: &str = "
local found = redis.call('GET', KEYS[1])
if ARGV[1] == '1' then
  if found ~= ARGV[2] then return 0 end
elseif found then
  return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1";

/// `KEYS`: the lock, the highest fence. `ARGV`: the owner, milliseconds. Returns the fence, or 0 when another owner holds it.
///
/// Fences are the time in microseconds, or one more than the last: so they grow also past a loss of the server's memory, and
/// past those of the embedded store. An owner that asks again, having lost the answer, gets the same one.
const LOCK: &str = "
local holder = redis.call('GET', KEYS[1])
if holder then
  local owner, fence = string.match(holder, '^(.*):(%d+)$')
  if owner == ARGV[1] then return tonumber(fence) end
  return 0
end
local time = redis.call('TIME')
local fence = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
if last >= fence then fence = last + 1 end
local text = string.format('%.0f', fence)
redis.call('SET', KEYS[2], text)
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. text, 'PX', ARGV[2])
return fence";

/// `KEYS`: the lock. `ARGV`: owner and fence, milliseconds.
const RENEW: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1";

/// `KEYS`: the lock. `ARGV`: owner and fence.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
return 1";

/// `KEYS`: the window. `ARGV`: limit, cost, microseconds of a slice, slices. Returns whether it is allowed, what remains, and
/// the microseconds to wait. Counts as `src/infra/kv/rate.rs` does.
const RATE: &str = "
local limit, cost = tonumber(ARGV[1]), tonumber(ARGV[2])
local slice, slices = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local current = math.floor(now / slice)
local found = redis.call('HGETALL', KEYS[1])
local counts, used = {}, 0
for i = 1, #found, 2 do
  local number, count = tonumber(found[i]), tonumber(found[i + 1])
  if number < current - slices then
    redis.call('HDEL', KEYS[1], found[i])
  else
    used = used + count
    counts[#counts + 1] = {number, count}
  end
end
if used + cost <= limit then
  redis.call('HINCRBY', KEYS[1], string.format('%.0f', current), cost)
  redis.call('PEXPIRE', KEYS[1], math.ceil(slice * (slices + 1) / 1000))
  return {1, limit - used - cost, 0}
end
table.sort(counts, function(a, b) return a[1] < b[1] end)
local excess, wait = used + cost - limit, slice * slices
for _, entry in ipairs(counts) do
  excess = excess - entry[2]
  if excess <= 0 then
    wait = (entry[1] + slices + 1) * slice - now
    break
  end
end
return {0, math.max(limit - used, 0), wait}";

pub(super) fn compare_and_set(key: &str, expected: Option<&[u8]>, value: &[u8], ttl: i64) -> Cmd {
    let mut command = eval(COMPARE_AND_SET, &[key]);
    command.arg(i32::from(expected.is_some())).arg(expected.unwrap_or_default()).arg(value).arg(ttl);
    command
}

pub(super) fn lock(key: &str, fences: &str, owner: &str, ttl: i64) -> Cmd {
    let mut command = eval(LOCK, &[key, fences]);
    command.arg(owner).arg(ttl);
    command
}

pub(super) fn renew(key: &str, owner: &str, fence: u64, ttl: i64) -> Cmd {
    let mut command = eval(RENEW, &[key]);
    command.arg(format!("{owner}:{fence}")).arg(ttl);
    command
}

pub(super) fn release(key: &str, owner: &str, fence: u64) -> Cmd {
    let mut command = eval(RELEASE, &[key]);
    command.arg(format!("{owner}:{fence}"));
    command
}

pub(super) fn rate(key: &str, limit: Limit, cost: u32) -> Cmd {
    let mut command = eval(RATE, &[key]);
    command.arg(limit.count).arg(cost).arg(limit.slice()).arg(SLICES);
    command
}

fn eval(text: &str, keys: &[&str]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(text).arg(keys.len()).arg(keys);
    command
}

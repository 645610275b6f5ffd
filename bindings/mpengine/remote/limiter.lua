--- The rate limiter of a remote manager: a bucket of tokens that fills by the server's clock, and the tasks that
--- wait, first in first out. Only the first in line watches the time; when it leaves it tells the next.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local core = require "mpengine.core"
local object = require "mpengine.remote.object"
local settle = require "mpengine.remote.settle"
require "mpengine.remote.mail"

-- ARGV: name, client, lease, token, n, may it wait. {1}: taken, {0, ms}: ask again then
local COMMON <const> = [[
local name, me, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local B, Q = P .. 'rate:' .. name, P .. 'rateq:' .. name
local entry, at = me .. ' ' .. ARGV[4], now()
local function first()
    while true do
        local waiting = call('LINDEX', Q, 0)
        if not waiting then return nil end
        if deadline(waiting:match('^%S+')) > at then return waiting end
        call('LPOP', Q)
    end
end
local function tell_next()
    local waiting = first()
    if not waiting then return end
    local client, token = waiting:match('^(%S+) (%S+)$')
    mail(client, 'w', token, 'look', 1)
end
]]

local ACQUIRE = client.script(COMMON .. [[
local rate, burst = call('HGET', P .. 'parameters', 'RateLimiter:' .. name):match('^rate=(%S+) burst=(%S+)$')
rate, burst = tonumber(rate), tonumber(burst)
local n = tonumber(ARGV[5])
local b = call('HMGET', B, 'tokens', 'at')
local tokens = math.min(burst, tonumber(b[1] or burst) + math.max(0, at - tonumber(b[2] or at)) * rate / 1000)
local head = first()
if (not head or head == entry) and tokens >= n - 1e-9 then
    if head then call('LPOP', Q) end
    call('HSET', B, 'tokens', string.format('%.17g', math.max(0, tokens - n)), 'at', at)
    if head then tell_next() end
    return {1}
end
if ARGV[6] == '1' then
    beat(me, lease, at)
    join(Q, entry)
    head = head or entry
end
if head ~= entry then return {0, lease} end
return {0, math.max(1, math.ceil((n - tokens) * 1000 / rate))}
]])

local LEAVE = client.script(COMMON .. [[
local head = first()
call('LREM', Q, 1, entry)
if head == entry then tell_next() end
return 1
]])

local SETTLEMENT = settle.new(COMMON, [[
drop(Q)
tell_next()
return 1
]], function(c, name) return { name, c.id, c:lease_ms() } end)

local RateLimiter = object.class("RateLimiter", "limiter")
local methods = RateLimiter.methods

local bursts = setmetatable({}, { __mode = "k" })

local function burst_of(self)
    if not bursts[self] then
        local text = object.agree(object.manager_of(self), "RateLimiter", object.name(self), nil, "")
        bursts[self] = tonumber(text:match "burst=(%S+)")
    end
    return bursts[self]
end

local function check_n(self, call, n)
    n = n == nil and 1 or n
    if not check.is_positive(n) then check.wrong(call, 1, "n must be a number above 0") end
    if n > burst_of(self) then
        check.wrong(call, 1, ("n must be at most the burst, %g, got %g"):format(burst_of(self), n))
    end
    return n
end

--- A step that is repeated, as its reply was lost, may take the tokens twice: the rate is never exceeded.
local function ask(c, self, token, n, join)
    return c:run(true, ACQUIRE, object.name(self), c.id, c:lease_ms(), token, ("%.17g"):format(n), join)
end

--- Takes n (1) tokens, in turn: true, or nil and "timeout".
---@param n number?
---@param timeout number? seconds
function methods:acquire(n, timeout)
    local c = object.check(self, RateLimiter, "acquire")
    n = check_n(self, "RateLimiter:acquire", n)
    check.timeout("RateLimiter:acquire", 2, timeout)
    local deadline = timeout and core.now() + timeout
    local wait <close> = c:wait()
    c:keep_alive()
    c:uses(SETTLEMENT, object.name(self))
    local left = timeout ~= 0
    local _ <close> = setmetatable({}, { __close = function(_, err)
        if not left then return end
        c:eventually(function() c:run(true, LEAVE, object.name(self), c.id, c:lease_ms(), wait.token) end, err)
    end })
    local reply = ask(c, self, wait.token, n, timeout == 0 and 0 or 1)
    while reply[1] == 0 do
        if deadline and core.now() >= deadline then return nil, "timeout" end
        wait.mail, wait.done = nil, false
        c:await(wait, math.min(deadline or math.huge, core.now() + reply[2] / 1000))
        reply = ask(c, self, wait.token, n, 1)
    end
    left = false
    return true
end

--- Takes n (1) tokens if they are there and no task waits: whether it did.
function methods:try(n)
    local c = object.check(self, RateLimiter, "try")
    return ask(c, self, "", check_n(self, "RateLimiter:try", n), 0)[1] == 1
end

--- Makes a handle: { rate = per second, burst = max(1, rate) }.
function RateLimiter.open(manager, name, options)
    local given
    if options ~= nil then
        check.type("Manager:RateLimiter", 2, options, "table")
        local rate, burst = options.rate, options.burst
        if not check.is_positive(rate) or rate == math.huge then
            check.wrong("Manager:RateLimiter", 2, "rate must be a number above 0")
        end
        burst = burst == nil and math.max(1, rate) or burst
        if not check.is_positive(burst) or burst == math.huge then
            check.wrong("Manager:RateLimiter", 2, "burst must be a number above 0")
        end
        given = ("rate=%.17g burst=%.17g"):format(rate, burst)
    end
    if object.agree(manager, "RateLimiter", name, given, "") == "" then
        error(("Manager:RateLimiter: '%s' is new: its rate is expected"):format(name))
    end
    return object.new(RateLimiter, manager, name)
end

return { RateLimiter = RateLimiter }

--- The cache of a remote manager: the values in a hash, each behind its expiry, and their keys in two sorted
--- sets by their last use: those that were stored, and those that were found again. What was only stored goes
--- first, so a scan evicts nothing that is read again and again (a segmented LRU). A use is noted once in a
--- second, so that most reads write nothing.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local core = require "mpengine.core"
local lock = require "mpengine.remote.lock"
local object = require "mpengine.remote.object"

-- ARGV: name. C: key -> "expiry in ms, 0: none" SP "ms that it is given stale" SP bytes
local COMMON <const> = [[
local name, at = ARGV[1], now()
local C, NEW, OLD = P .. 'cache:' .. name, P .. 'cachen:' .. name, P .. 'cacheo:' .. name
local S = P .. 'caches:' .. name
local size, ttl = call('HGET', P .. 'parameters', 'Cache:' .. name):match('^size=(%d+) ttl=(%S+)$')
size, ttl = tonumber(size), tonumber(ttl)
local ENTRY = 200
local function count(what, n) return call('HINCRBY', S, what, n or 1) end
local function cost(key, bytes) return #key + #bytes + ENTRY end
local function remove(key, text)
    call('HDEL', C, key)
    call('ZREM', NEW, key)
    if call('ZREM', OLD, key) == 1 then count('kept', -cost(key, text)) end
    count('bytes', -cost(key, text))
end
local function parts(text)
    local till, stale, from = text:match('^(%d+) (%d+) ()')
    return tonumber(till), tonumber(stale), text:sub(from)
end
local function find(key)
    local text = call('HGET', C, key)
    if not text then return nil end
    local till, stale, bytes = parts(text)
    if till ~= 0 and till <= at then
        if till + stale <= at then
            remove(key, text)
            count('expired')
        end
        return nil, till + stale > at and bytes or nil
    end
    return bytes, nil, till, text
end
local function use(key, text)
    local last = call('ZSCORE', OLD, key)
    if last and at - last < 1000 then return end
    if not last then
        call('ZREM', NEW, key)
        local kept = count('kept', cost(key, text))
        while kept > size * 0.8 do
            local back = call('ZPOPMIN', OLD)
            if not back[1] then break end
            call('ZADD', NEW, at, back[1])
            kept = count('kept', -cost(back[1], call('HGET', C, back[1]) or ''))
        end
    end
    call('ZADD', OLD, at, key)
end
local function store(key, bytes, ms, stale)
    local till = ms == 0 and 0 or at + ms
    local text = string.format('%.0f %.0f ', till, stale) .. bytes
    if cost(key, text) > size then return -1 end
    local known = call('HGET', C, key)
    local was_kept = known and call('ZSCORE', OLD, key)
    if known then remove(key, known) end
    local bytes_now = count('bytes', cost(key, text))
    while bytes_now > size do
        local set = call('ZCARD', NEW) > 0 and NEW or OLD
        local victim = call('ZPOPMIN', set)[1]
        local gone = call('HGET', C, victim) or ''
        call('HDEL', C, victim)
        if set == OLD then count('kept', -cost(victim, gone)) end
        bytes_now = count('bytes', -cost(victim, gone))
        count('evictions')
    end
    call('HSET', C, key, text)
    if was_kept then
        call('ZADD', OLD, at, key)
        count('kept', cost(key, text))
    else
        call('ZADD', NEW, at, key)
    end
    return 1
end
-- A ttl in seconds, '' for that of the cache; in ms, 0: none.
local function ms_of(text)
    local seconds = text == '' and ttl or tonumber(text)
    if seconds == math.huge then return 0 end
    return math.max(1, math.floor(seconds * 1000))
end
]]

-- ARGV: key. {bytes} | {} | {false, stale bytes}
local GET = client.script(COMMON .. [[
local bytes, old, _, text = find(ARGV[2])
count(bytes and 'hits' or 'misses')
if bytes then
    use(ARGV[2], text)
    return {bytes}
end
if old then return {false, old} end
return {}
]])

-- ARGV: key, bytes, ttl, mode: set, add, replace; ms that it may be given stale
local STORE = client.script(COMMON .. [[
local known = ARGV[5] ~= 'set' and find(ARGV[2])
if ARGV[5] == 'add' and known or ARGV[5] == 'replace' and not known then return 0 end
return store(ARGV[2], ARGV[3], ms_of(ARGV[4]), tonumber(ARGV[6]))
]])

local DELETE = client.script(COMMON .. [[
local bytes, old, till, text = find(ARGV[2])
if not bytes then return 0 end
remove(ARGV[2], text)
return 1
]])

-- ARGV: key, ttl
local TOUCH = client.script(COMMON .. [[
local bytes = find(ARGV[2])
if not bytes then return 0 end
return store(ARGV[2], bytes, ms_of(ARGV[3]), 0)
]])

local TTL = client.script(COMMON .. [[
local bytes, old, till = find(ARGV[2])
if not bytes then return -2 end
return till == 0 and -1 or till - at
]])

-- ARGV: key, what is expected or '', new bytes, ttl: {1}, or {0, what is there}
local EXCHANGE = client.script(COMMON .. [[
local bytes, old, till = find(ARGV[2])
if (bytes or '') ~= ARGV[3] then return {0, bytes or ''} end
local ms = bytes and ARGV[5] == '' and (till == 0 and 0 or math.max(1, till - at)) or ms_of(ARGV[5])
return {store(ARGV[2], ARGV[4], ms, 0)}
]])

local CLEAR = client.script(COMMON .. [[
call('DEL', C, NEW, OLD)
call('HDEL', S, 'bytes', 'kept')
]])

local STATS = client.script(COMMON .. [[
local out = {call('HLEN', C)}
for _, what in ipairs({'bytes', 'hits', 'misses', 'evictions', 'expired', 'computed', 'waited'}) do
    out[#out + 1] = tonumber(call('HGET', S, what) or 0)
end
return out
]])

local COUNT = client.script(COMMON .. [[
return count(ARGV[2])
]])

-- How a computation failed, for those that waited for it. ARGV: key, fence, bytes
local FAILED = client.script(COMMON .. [[
call('SET', P .. 'cachee:' .. name .. ':' .. ARGV[2], ARGV[3] .. ' ' .. ARGV[4], 'PX', 60000)
]])

-- ARGV: key, name of its lock: the error of the owner before this one, if it failed.
local WHY = client.script(COMMON .. [[
local text = call('GET', P .. 'cachee:' .. name .. ':' .. ARGV[2])
if not text then return false end
local fence, from = text:match('^(%d+) ()')
if call('HGET', P .. 'lock:' .. ARGV[3], 'released') ~= fence then return false end
return text:sub(from)
]])

local Cache = object.class("Cache", "cache")
local methods = Cache.methods

local NAME <const> = "Cache:"

local function encode_key(call, key) return object.encode_key(NAME .. call, key) end

local function encode(self, call, value)
    if value == nil then check.wrong(NAME .. call, 2, "a value expected, a cache stores no nil") end
    return object.encode(object.manager_of(self), NAME .. call, value)
end

local function decode(self, call, bytes) return object.decode(object.manager_of(self), NAME .. call, bytes) end

local function ttl_text(call, n, ttl)
    if ttl == nil then return "" end
    if not check.is_positive(ttl) then
        check.wrong(NAME .. call, n, "ttl must be a number of seconds above 0")
    end
    return ttl == math.huge and "inf" or ("%.17g"):format(ttl)
end

local function stored(call, said)
    if said == -1 then error(NAME .. call .. ": the value is larger than the cache", 0) end
    return said == 1
end

local function store(self, call, key, value, ttl, stale)
    local c = object.check(self, Cache, call)
    return stored(call, c:run(true, STORE, object.name(self), encode_key(call, key), encode(self, call, value),
        ttl_text(call, 3, ttl), call == "fetch" and "set" or call, (stale or 0) * 1000 // 1 | 0))
end

--- The value of a key; nil when it is absent or expired.
function methods:get(key)
    local c = object.check(self, Cache, "get")
    return decode(self, "get", c:run(true, GET, object.name(self), encode_key("get", key))[1])
end

--- Stores a value. An error when it is larger than the cache.
---@param ttl number? seconds, that of the cache; math.huge: for ever
function methods:set(key, value, ttl) store(self, "set", key, value, ttl) end

--- Stores a value if the key is absent: whether it did.
function methods:add(key, value, ttl) return store(self, "add", key, value, ttl) end

--- Stores a value if the key is there: whether it did.
function methods:replace(key, value, ttl) return store(self, "replace", key, value, ttl) end

--- Removes a key: whether it was there.
function methods:delete(key)
    local c = object.check(self, Cache, "delete")
    return c:run(false, DELETE, object.name(self), encode_key("delete", key)) == 1
end

--- Gives a key a new ttl, without one that of the cache: whether it was there.
function methods:touch(key, ttl)
    local c = object.check(self, Cache, "touch")
    return c:run(true, TOUCH, object.name(self), encode_key("touch", key), ttl_text("touch", 2, ttl)) == 1
end

--- The seconds until a key expires, math.huge when it never does; nil when it is absent.
function methods:ttl(key)
    local c = object.check(self, Cache, "ttl")
    local ms = c:run(true, TTL, object.name(self), encode_key("ttl", key))
    if ms == -2 then return nil end
    return ms == -1 and math.huge or ms / 1000
end

--- Adds n to a number; an absent key counts as `init`, without which it is an error. The new value.
function methods:incr(key, n, init, ttl)
    local c = object.check(self, Cache, "incr")
    if type(n) ~= "number" then check.fail("Cache:incr", 2, "number", n) end
    if init ~= nil and type(init) ~= "number" then check.fail("Cache:incr", 3, "number", init) end
    local field, text = encode_key("incr", key), ttl_text("incr", 4, ttl)
    local bytes = c:run(true, GET, object.name(self), field)[1]
    while true do
        local old = bytes and decode(self, "incr", bytes)
        if not bytes then
            if init == nil then error("Cache:incr: the key is absent, and there is no init") end
            old = init
        elseif type(old) ~= "number" then
            error(("Cache:incr: the value is a %s, not a number"):format(type(old)))
        end
        local said = c:run(false, EXCHANGE, object.name(self), field, bytes or "", encode(self, "incr", old + n), text)
        if said[1] ~= 0 then
            stored("incr", said[1])
            return old + n
        end
        bytes = said[2] ~= "" and said[2] or nil
    end
end

function methods:clear()
    local c = object.check(self, Cache, "clear")
    c:run(true, CLEAR, object.name(self))
end

--- The keys, at most n of them, in no order; also of values that have expired and are still there.
function methods:keys(n)
    local c = object.check(self, Cache, "keys")
    check.count("Cache:keys", 1, n, 0, "n")
    local keys = c:command(true, { "HKEYS", c.prefix .. "cache:" .. object.name(self) })
    local list = {}
    for i = 1, math.min(#keys, n or #keys) do list[i] = object.decode_key(keys[i]) end
    return list
end

function methods:stats()
    local c = object.check(self, Cache, "stats")
    local s = c:run(true, STATS, object.name(self))
    return { entries = s[1], bytes = s[2], hits = s[3], misses = s[4], evictions = s[5], expired = s[6],
        computed = s[7], waited = s[8] }
end

-- ---- fetch -----------------------------------------------------------------------------------

local NOTHING <const> = "Cache:fetch: the function returned nil"

--- Computes and stores the value; the lock of the key is held. An error is left for those that wait; no bytes: the
--- function returned nil.
local function compute(c, self, key, field, f, opts, fence)
    c:run(true, COUNT, object.name(self), "computed")
    local ok, value = pcall(f, key)
    if ok and value == nil then
        c:run(true, FAILED, object.name(self), field, fence, "")
        error(NOTHING)
    end
    if ok then
        store(self, "fetch", key, value, opts.ttl, opts.stale)
        return value
    end
    if core.is_over() then error(value, 0) end -- its task is cancelled: another one computes
    local sent, bytes = pcall(encode, self, "fetch", value)
    if not sent then bytes = encode(self, "fetch", tostring(value)) end
    c:run(true, FAILED, object.name(self), field, fence, bytes)
    error(value, 0)
end

local function check_fetch(f, opts)
    check.callable("Cache:fetch", 2, f)
    if opts == nil then return {} end
    check.type("Cache:fetch", 3, opts, "table")
    for name in pairs(opts) do
        if name ~= "ttl" and name ~= "stale" and name ~= "timeout" then
            error(("Cache:fetch: unknown option '%s' (ttl, stale or timeout expected)"):format(tostring(name)))
        end
    end
    check.timeout("Cache:fetch", 3, opts.timeout)
    check.timeout("Cache:fetch", 3, opts.stale)
    ttl_text("fetch", 3, opts.ttl)
    return opts
end

--- The value of a key, or that of f(key), which is kept. One task of all processes runs f, the others wait for it.
---@param f fun(key: any): any
---@param opts { ttl: number?, stale: number?, timeout: number? }?
function methods:fetch(key, f, opts)
    local c = object.check(self, Cache, "fetch")
    opts = check_fetch(f, opts)
    local field = encode_key("fetch", key)
    local found = c:run(true, GET, object.name(self), field)
    if found[1] then return decode(self, "fetch", found[1]) end
    local of = ("cache %s %s"):format(object.name(self), field)
    local mine = c.fetching[of]
    if mine == core.current() then error("Cache:fetch: the key is being computed by this very call", 2) end
    local source = lock.source(c, of)
    c:keep_alive()
    local grant = c:obtain(source, 0)
    local waited = not grant
    if waited then
        if opts.stale and found[2] then return decode(self, "fetch", found[2]) end
        c:run(true, COUNT, object.name(self), "waited")
        grant = c:obtain(source, opts.timeout)
        if not grant then return nil, "timeout" end
    end
    local _ <close> = setmetatable({}, { __close = function()
        c.fetching[of] = nil
        lock.release(c, "Cache:fetch", of, grant.fence)
    end })
    c.fetching[of], c.granted[of] = core.current(), grant.fence
    if waited then
        local again = c:run(true, GET, object.name(self), field)
        if again[1] then return decode(self, "fetch", again[1]) end
        local why = c:run(true, WHY, object.name(self), field, of)
        if why then
            c:run(true, FAILED, object.name(self), field, grant.fence, why)
            if why == "" then error(NOTHING) end
            error(decode(self, "fetch", why), 0)
        end
    end
    return compute(c, self, key, field, f, opts, grant.fence)
end

-- ---- making ----------------------------------------------------------------------------------

local UNITS <const> = { [""] = 1, K = 1 << 10, M = 1 << 20, G = 1 << 30 }

local function size_of(size)
    if math.type(size) == "integer" and size > 0 then return size end
    local n, unit = tostring(size):match "^(%d+)([KMG]?)$"
    if type(size) == "string" and n and tonumber(n) > 0 then return math.tointeger(tonumber(n)) * UNITS[unit] end
    check.wrong("Manager:Cache", 2, ("size must be bytes, as a number or like '64M', got %s"):format(tostring(size)))
end

--- Makes a handle: { size = "64M", ttl = seconds }.
function Cache.open(manager, name, options)
    local given
    if options ~= nil then
        check.type("Manager:Cache", 2, options, "table")
        local ttl = options.ttl
        if ttl ~= nil then ttl_text("ttl", 2, ttl) end
        given = ("size=%d ttl=%s"):format(size_of(options.size), ttl and ttl ~= math.huge and ("%.17g"):format(ttl)
            or "inf")
    end
    if object.agree(manager, "Cache", name, given, "") == "" then
        error(("Manager:Cache: '%s' is new: its size is expected"):format(name))
    end
    return object.new(Cache, manager, name)
end

return { Cache = Cache }

--- The dict of a remote manager: a hash. Each call is one step of the server's. A value of the hash is an integer's
--- decimals or an encoded value, so incr is the server's own.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local object = require "mpengine.remote.object"

local Dict = object.class("Dict", "dict")
local methods = Dict.methods

local encode, encode_key, decode_key = object.encode, object.encode_key, object.decode_key

local function key_of(c, self) return c.prefix .. "dict:" .. object.name(self) end

local function decode(self, call, bytes) return object.decode(object.manager_of(self), "Dict:" .. call, bytes) end

-- ---- scripts ---------------------------------------------------------------------------------

local SET_IF_ABSENT = client.script [[
local D = P .. 'dict:' .. ARGV[1]
local known = call('HGET', D, ARGV[2])
if known then return known end
call('HSET', D, ARGV[2], ARGV[3])
return false
]]

local POP = client.script [[
local D = P .. 'dict:' .. ARGV[1]
local known = call('HGET', D, ARGV[2])
call('HDEL', D, ARGV[2])
return known
]]

local POP_ANY = client.script [[
local D = P .. 'dict:' .. ARGV[1]
local key = call('HRANDFIELD', D)
if not key then return false end
local value = call('HGET', D, key)
call('HDEL', D, key)
return {key, value}
]]

-- ARGV: name, key, expected ('' when 0), is there one, new ('' when 0), is there one
local EXCHANGE = client.script [[
local D = P .. 'dict:' .. ARGV[1]
local known = call('HGET', D, ARGV[2])
if ARGV[4] == '1' and known ~= ARGV[3] or ARGV[4] == '0' and known then return {0, known} end
if ARGV[6] == '1' then call('HSET', D, ARGV[2], ARGV[5]) else call('HDEL', D, ARGV[2]) end
return {1}
]]

-- ARGV: name, lock, client, fence, key, value ('' when 0), is there one. Writes while that lock is held.
local SET_GUARDED = client.script [[
local h = call('HMGET', P .. 'lock:' .. ARGV[2], 'owner', 'fence')
if h[1] ~= ARGV[3] or h[2] ~= ARGV[4] or deadline(h[1]) <= now() then return 0 end
local D = P .. 'dict:' .. ARGV[1]
if ARGV[7] == '1' then call('HSET', D, ARGV[5], ARGV[6]) else call('HDEL', D, ARGV[5]) end
return 1
]]

-- ---- reading ---------------------------------------------------------------------------------

function methods:get(key, default)
    local c = object.check(self, Dict, "get")
    local bytes = c:command(true, { "HGET", key_of(c, self), encode_key("Dict:get", key) })
    if not bytes then return default end
    return decode(self, "get", bytes)
end

function methods:has(key)
    local c = object.check(self, Dict, "has")
    return c:command(true, { "HEXISTS", key_of(c, self), encode_key("Dict:has", key) }) == 1
end

--- All entries at one moment: a list of keys and one of values.
local function entries(self, call)
    local c = object.check(self, Dict, call)
    local all = c:command(true, { "HGETALL", key_of(c, self) })
    local keys, values = {}, {}
    for i = 1, #all, 2 do
        keys[#keys + 1] = decode_key(all[i])
        values[#values + 1] = decode(self, call, all[i + 1])
    end
    return keys, values
end

function methods:keys() return (entries(self, "keys")) end

function methods:values() return (select(2, entries(self, "values"))) end

function methods:items()
    local keys, values = entries(self, "items")
    for i, key in ipairs(keys) do keys[i] = { key, values[i] } end
    return keys
end

function methods:copy()
    local keys, values = entries(self, "copy")
    local copy = {}
    for i, key in ipairs(keys) do copy[key] = values[i] end
    return copy
end

-- ---- writing ---------------------------------------------------------------------------------

local function set(self, call, key, value)
    local c = object.check(self, Dict, call)
    local field = encode_key("Dict:" .. call, key)
    if value == nil then
        c:command(true, { "HDEL", key_of(c, self), field })
    else
        c:command(true, { "HSET", key_of(c, self), field,
            encode(object.manager_of(self), "Dict:" .. call, value) })
    end
end

local function set_guarded(self, key, value, guard)
    local c = object.check(self, Dict, "set")
    local lock = require("mpengine.remote.lock")
    local name, fence = lock.held_name(guard)
    if not name then error("Dict:set: option 'guard' must be a Lock or RLock of the same manager") end
    local field = encode_key("Dict:set", key)
    local bytes = value ~= nil and encode(object.manager_of(self), "Dict:set", value) or ""
    if not fence or c:run(true, SET_GUARDED, object.name(self), name, c.id, fence, field, bytes,
            value ~= nil and 1 or 0) ~= 1 then
        error("Dict:set: the lock that guards it is not held", 0)
    end
end

--- Stores a value, or with nil removes the key. With options.guard only while this process holds that lock.
---@param options { guard: mpengine.remote.Lock }?
function methods:set(key, value, options)
    if options ~= nil then
        check.type("Dict:set", 3, options, "table")
        return set_guarded(self, key, value, options.guard)
    end
    set(self, "set", key, value)
end

function methods:setdefault(key, value)
    local c = object.check(self, Dict, "setdefault")
    if value == nil then check.wrong("Dict:setdefault", 2, "a value expected, got nil") end
    local bytes = encode(object.manager_of(self), "Dict:setdefault", value)
    local known = c:run(true, SET_IF_ABSENT, object.name(self), encode_key("Dict:setdefault", key), bytes)
    return decode(self, "setdefault", known or bytes)
end

function methods:pop(key, default)
    local c = object.check(self, Dict, "pop")
    local bytes = c:run(false, POP, object.name(self), encode_key("Dict:pop", key))
    if not bytes then return default end
    return decode(self, "pop", bytes)
end

function methods:popitem()
    local c = object.check(self, Dict, "popitem")
    local entry = c:run(false, POP_ANY, object.name(self))
    if not entry then return nil end
    return decode_key(entry[1]), decode(self, "popitem", entry[2])
end

--- Entries of a table, or of another dict, in one step.
function methods:update(from)
    local c = object.check(self, Dict, "update")
    local manager = object.manager_of(self)
    local words = { "HSET", key_of(c, self) }
    local kind = check.kind(from)
    if kind == Dict.__name or kind == "mp.Dict" then from = from:copy() end
    if type(from) ~= "table" then check.fail("Dict:update", 1, "table or Dict", from) end
    for key, value in pairs(from) do
        words[#words + 1] = encode_key("Dict:update", key)
        words[#words + 1] = encode(manager, "Dict:update", value)
    end
    if #words > 2 then c:command(true, words) end
end

function methods:clear()
    local c = object.check(self, Dict, "clear")
    c:command(true, { "DEL", key_of(c, self) })
end

-- ---- changing --------------------------------------------------------------------------------

--- Stores the new value if the old one is still there: true, or false and the bytes that are there.
local function exchange(self, c, field, old, new)
    local said = c:run(false, EXCHANGE, object.name(self), field, old or "", old and 1 or 0, new or "", new and 1 or 0)
    return said[1] == 1, said[2]
end

--- d[k] = f(d[k]); the new value. f runs again when another process has changed the key meanwhile.
function methods:modify(key, f)
    local c = object.check(self, Dict, "modify")
    check.callable("Dict:modify", 2, f)
    local field = encode_key("Dict:modify", key)
    local old = c:command(true, { "HGET", key_of(c, self), field })
    while true do
        local value = f(decode(self, "modify", old))
        local new = value ~= nil and encode(object.manager_of(self), "Dict:modify", value) or nil
        local done, there = exchange(self, c, field, old, new)
        if done then return value end
        old = there
    end
end

--- Adds n (1); an absent key counts as 0. The new value.
function methods:incr(key, n)
    local c = object.check(self, Dict, "incr")
    n = n == nil and 1 or n
    if type(n) ~= "number" then check.fail("Dict:incr", 2, "number", n) end
    local field = encode_key("Dict:incr", key)
    if math.type(n) == "integer" then
        local ok, value = pcall(c.command, c, false, { "HINCRBY", key_of(c, self), field, n })
        if ok then return value end
        if type(value) ~= "string" or not value:find("not an integer", 1, true) and not value:find("overflow", 1, true)
        then
            error(value, 0)
        end
    end
    return methods.modify(self, key, function(old)
        if old ~= nil and type(old) ~= "number" then
            error(("Dict:incr: the value is a %s, not a number"):format(type(old)), 0)
        end
        return (old or 0) + n
    end)
end

-- ---- as a table ------------------------------------------------------------------------------

function Dict.__index(self, key)
    local method = methods[key]
    if method then return method end
    return methods.get(self, key)
end

function Dict.__newindex(self, key, value)
    if methods[key] then
        error(("Dict: '%s' is a method; use d:set(\"%s\", value)"):format(key, key))
    end
    set(self, "set", key, value)
end

function Dict.__len(self)
    local c = object.check(self, Dict, "__len")
    return c:command(true, { "HLEN", key_of(c, self) })
end

--- Walks the entries of one moment.
function Dict.__pairs(self)
    local keys, values = entries(self, "pairs")
    local i = 0
    return function()
        i = i + 1
        return keys[i], values[i]
    end
end

--- Makes a handle; a table is what a dict begins with that does not exist.
function Dict.open(manager, name, contents)
    local self = object.new(Dict, manager, name)
    if contents ~= nil then
        check.type("Manager:dict", 2, contents, "table")
        for key, value in pairs(contents) do methods.setdefault(self, key, value) end
    end
    return self
end

return { class = Dict }

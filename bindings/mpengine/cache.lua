--- fetch of mp.Cache, for a key that is not there: one task of all processes computes the value, and
--- the others wait for it. lcache_fetch.c has the steps.
local core = require "mpengine.core"
local check = require "mpengine.check"

local cache = {}

local known = { ttl = true, stale = true, timeout = true }

-- Seconds, more than 0, or nil.
local function check_seconds(name, value)
    if value == nil or (type(value) == "number" and value > 0) then return end
    local got = type(value) == "number" and tostring(value) or check.kind(value)
    error(("Cache:fetch: %s must be a number of seconds, more than 0, got %s"):format(name, got))
end

local function check_options(opts)
    if opts == nil then return {} end
    check.type("Cache:fetch", 3, opts, "table")
    for name in pairs(opts) do
        if not known[name] then
            error(("Cache:fetch: unknown option '%s' (ttl, stale or timeout expected)"):format(tostring(name)))
        end
    end
    check_seconds("ttl", opts.ttl)
    check_seconds("stale", opts.stale)
    check.timeout("Cache:fetch", 3, opts.timeout)
    return opts
end

--- An error of f, also a kill of its task, closes the flight with it.
function cache.fetch(self, k, f, opts)
    opts = check_options(opts)
    local flight <close> = core.cache_flight(self)
    local what, value = flight:begin(k, opts.stale)
    if what == "wait" then
        what, value = flight:wait(opts.timeout)
    end
    if what == "value" then return value end
    if what == "error" then error(value, 0) end
    if what == nil then return nil, value end
    value = f(k)
    if value == nil then
        error("Cache:fetch: f must return a value, got nil")
    end
    flight:finish(value, opts.ttl)
    return value
end

return cache

--- The options of a pool's calls, and of its constructor.
local core = require "mpengine.core"
local check = require "mpengine.check"
local errors = require "mpengine.errors"

local options = {}

--- The maximum number of workers of a pool.
options.CAPACITY = 256

local function set(...)
    local list = {}
    for _, name in ipairs{ ... } do list[name] = true end
    return list
end

--- The options of apply_async, of the maps, and of imap.
options.async = set("callback", "error_callback", "timeout", "retries")
options.maps = set("callback", "error_callback", "timeout", "retries", "chunksize", "progress", "shared", "pack",
    "return_exceptions")
options.imaps = set("timeout", "retries", "chunksize", "progress", "shared", "pack", "return_exceptions", "ahead")

local expected = { callback = "function", error_callback = "function", timeout = "number", pack = "boolean",
    return_exceptions = "boolean" }
local least = { chunksize = 1, retries = 0, ahead = 1 }
local none = {}

local function check_option(call, key, value)
    if expected[key] and type(value) ~= expected[key] then
        errors.raise(("%s: option '%s': a %s expected, got %s"):format(call, key, expected[key], type(value)))
    end
    if key == "timeout" and (value < 0 or value ~= value) then
        errors.raise(("%s: option 'timeout' must be a number of seconds, 0 or more"):format(call))
    end
    if least[key] and (math.type(value) ~= "integer" or value < least[key]) then
        errors.raise(("%s: option '%s' must be an integer, %d or more"):format(call, key, least[key]))
    end
    if key == "progress" and not (type(value) == "boolean" or type(value) == "function" or value == "lines") then
        errors.raise(call .. ": option 'progress': true, 'lines' or a function expected, got " .. type(value))
    end
end

--- Raises for an option that a call does not have.
function options.unknown(call, key, allowed)
    local known = {}
    for name in pairs(allowed) do known[#known + 1] = name end
    table.sort(known)
    errors.raise(("%s: unknown option '%s' (%s expected)"):format(call, tostring(key), table.concat(known, ", ")))
end

--- The options of a call, restricted to the allowed ones.
function options.call(call, opts, allowed)
    if opts == nil then return none end
    if type(opts) ~= "table" then
        check.fail(call, 3, "table of options", opts)
    end
    for key, value in pairs(opts) do
        if not allowed[key] then options.unknown(call, key, allowed) end
        check_option(call, key, value)
    end
    return opts
end

local fields = { processes = "number", initializer = "function", initargs = "table", maxtasksperchild = "number",
    name = "string" }

--- The arguments of mp.Pool: the number of workers, and the table of fields.
function options.pool(first, initializer, initargs, maxtasks)
    local opts = first
    if type(first) ~= "table" then
        opts = { processes = first, initializer = initializer, initargs = initargs, maxtasksperchild = maxtasks }
    end
    for key, value in pairs(opts) do
        local wanted = fields[key]
        if not wanted then
            local known = "processes, initializer, initargs, maxtasksperchild or name"
            errors.raise(("Pool: unknown field '%s' (%s expected)"):format(tostring(key), known))
        end
        if type(value) ~= wanted then
            errors.raise(("Pool: field '%s': a %s expected, got %s"):format(key, wanted, type(value)))
        end
    end
    local n = opts.processes or core.cpu_count()
    if math.type(n) ~= "integer" or n < 1 or n > options.CAPACITY then
        check.wrong("Pool", 1, ("number of processes from 1 to %d expected, got %s"):format(options.CAPACITY, n))
    end
    local max = opts.maxtasksperchild
    if max and (math.type(max) ~= "integer" or max < 1) then
        error("Pool: field 'maxtasksperchild' must be a positive integer", 3)
    end
    return n, opts
end

return options

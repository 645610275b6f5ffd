--- What the calls of a pool, and its making, can be told.
local core = require "mpengine.core"

local options = {}

--- The most workers that a pool can have.
options.CAPACITY = 256

local option_types = {
    callback = "function", error_callback = "function", timeout = "number", retries = "number",
    chunksize = "number", progress = "any", shared = "any",
}

--- The options of a call, checked; errors point at level + 1.
function options.call(call, opts)
    if opts == nil then return {} end
    if type(opts) ~= "table" then
        error(("bad argument #3 to '%s' (table of options expected, got %s)"):format(call, type(opts)), 4)
    end
    for key, value in pairs(opts) do
        local expected = option_types[key]
        if not expected then error(("%s: unknown option '%s'"):format(call, tostring(key)), 4) end
        if expected ~= "any" and type(value) ~= expected then
            error(("%s: option '%s': a %s expected, got %s"):format(call, key, expected, type(value)), 4)
        end
    end
    if opts.timeout and (opts.timeout < 0 or opts.timeout ~= opts.timeout) then
        error(("%s: option 'timeout' must be a number of seconds, 0 or more"):format(call), 4)
    end
    for _, key in ipairs { "chunksize", "retries" } do
        local value = opts[key]
        if value and (math.type(value) ~= "integer" or value < (key == "chunksize" and 1 or 0)) then
            error(("%s: option '%s' must be a positive integer"):format(call, key), 4)
        end
    end
    return opts
end

local fields = { processes = "number", initializer = "function", initargs = "table", maxtasksperchild = "number" }

--- What mp.Pool was given: the number of workers, and the table of fields.
function options.pool(first, initializer, initargs, maxtasks)
    local opts = first
    if type(first) ~= "table" then
        opts = { processes = first, initializer = initializer, initargs = initargs, maxtasksperchild = maxtasks }
    end
    for key, value in pairs(opts) do
        local expected = fields[key]
        if not expected then
            error(("Pool: unknown field '%s' (processes, initializer, initargs or maxtasksperchild expected)")
                :format(tostring(key)), 3)
        end
        if type(value) ~= expected then
            error(("Pool: field '%s': a %s expected, got %s"):format(key, expected, type(value)), 3)
        end
    end
    local n = opts.processes or core.cpu_count()
    if math.type(n) ~= "integer" or n < 1 or n > options.CAPACITY then
        error(("bad argument #1 to 'Pool' (number of processes from 1 to %d expected, got %s)")
            :format(options.CAPACITY, n), 3)
    end
    local max = opts.maxtasksperchild
    if max and (math.type(max) ~= "integer" or max < 1) then
        error("Pool: field 'maxtasksperchild' must be a positive integer", 3)
    end
    return n, opts
end

return options

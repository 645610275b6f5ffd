--- How a task ended, as bytes: made by the process that ran it, read by the one that waits for it.
local core = require "mpengine.core"
local errors = require "mpengine.errors"
local object = require "mpengine.remote.object"

local outcome = {}

--- The fields of an error that travel; a value that cannot is left out.
local function describe(manager, err)
    local fields = { kind = err.kind or "error", message = tostring(err.message), traceback = err.traceback,
        pid = err.pid, signal = err.signal, exitcode = err.exitcode }
    if err.value ~= nil and pcall(object.encode, manager, "", err.value) then fields.value = err.value end
    return fields
end

local function described(f, ...)
    local function caught(value)
        return { kind = "error", message = errors.message(value), traceback = errors.traceback(value, 2), value = value,
            pid = core.pid() }
    end
    return xpcall(f, caught, ...)
end

--- The bytes of an error alone.
function outcome.of_error(manager, err)
    return object.encode(manager, "", { err = describe(manager, err) })
end

local function encoded(manager, value, what)
    local ok, bytes = pcall(object.encode, manager, "", value, what)
    if ok then return bytes end
    return outcome.of_error(manager, { message = tostring(bytes):gsub("^: ", "") })
end

--- Calls f with the arguments and gives the bytes, and whether it ended well.
function outcome.call(manager, f, args)
    local results = table.pack(described(f, table.unpack(args, 1, args.n)))
    if not results[1] then return outcome.of_error(manager, results[2]), false end
    local values = table.move(results, 2, results.n, 1, {})
    values.n = results.n - 1
    return encoded(manager, { values = values }, "result"), true
end

--- Calls f for each item.
function outcome.map(manager, f, task, items)
    local values, errs = { n = items.n }, {}
    for i = 1, items.n do
        local item, results = items[i]
        if task.star and type(item) == "table" then
            results = table.pack(described(f, table.unpack(item, 1, item.n or #item)))
        else
            results = table.pack(described(f, item))
        end
        if not results[1] then
            errs[i] = describe(manager, results[2])
        elseif task.pack then
            values[i] = table.move(results, 2, results.n, 1, { n = results.n - 1 })
        else
            values[i] = results[2]
        end
    end
    return encoded(manager, { values = values, errs = errs }, "results"), true
end

--- Gives an AsyncResult the results or the error of a call.
function outcome.settle(manager, bytes, result)
    local ok, read = pcall(object.decode, manager, "Pool", bytes)
    if not ok then return result:set_error(errors.new { kind = "error", message = tostring(read) }) end
    if read.err then return result:set_error(errors.new(read.err)) end
    result:set(table.unpack(read.values, 1, read.values.n))
end

--- The results of a chunk: a list with n, and the errors by their places.
function outcome.chunk(manager, bytes, err, items, n)
    local read = bytes and table.pack(pcall(object.decode, manager, "Pool", bytes))
    if read and not read[1] then err = errors.new { kind = "error", message = tostring(read[2]) } end
    local all = not err and read[2]
    if all and all.values then
        for i, fields in pairs(all.errs) do
            fields.item = items[i]
            all.errs[i] = errors.new(fields)
        end
        return all.values, all.errs, n
    end
    local errs = {}
    for i = 1, n do
        local fields = {}
        for k, v in pairs(all and all.err or err) do fields[k] = v end
        fields.item = items[i]
        errs[i] = errors.new(fields)
    end
    return {}, errs, n
end

return outcome

--- How a task ended, as bytes: made by the process that ran it, read by the one that waits for it. The first one
--- says what follows: r the only result, n a list of results, m the values and errors of a map's items, e an error.
local core = require "mpengine.core"
local envelope = require "mpengine.remote.envelope"
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

local function caught(value)
    return { kind = "error", message = errors.message(value), traceback = errors.traceback(value, 2), value = value,
        pid = core.pid() }
end

--- The bytes of an error alone.
function outcome.of_error(manager, err)
    return object.encode_after("e", manager, "", describe(manager, err))
end

local function encoded(kind, manager, value, what)
    local ok, bytes = pcall(object.encode_after, kind, manager, "", value, what)
    if ok then return bytes end
    return outcome.of_error(manager, { message = tostring(bytes):gsub("^: ", "") })
end

local function ended(manager, ok, ...)
    if not ok then return outcome.of_error(manager, (...)) end
    if select("#", ...) == 1 then return encoded("r", manager, ..., "result") end
    return encoded("n", manager, table.pack(...), "result")
end

--- Calls f with the arguments and gives the bytes.
function outcome.call(manager, f, args)
    return ended(manager, xpcall(f, caught, table.unpack(args, 1, args.n)))
end

--- Whether they say that the task ended well.
function outcome.is_well(bytes) return bytes:byte(1) ~= 101 end

local function no_list(item)
    error(("starmap: an item is a %s, not a list of arguments"):format(type(item)), 0)
end

--- Calls f for each item. A nil that has a reason behind it keeps that.
function outcome.map(manager, f, flags, items)
    local values, errs, reasons = { n = items.n }, {}, nil
    for i = 1, items.n do
        local item, results = items[i]
        if flags & envelope.STAR == 0 then
            results = table.pack(xpcall(f, caught, item))
        elseif type(item) == "table" then
            results = table.pack(xpcall(f, caught, table.unpack(item, 1, item.n or #item)))
        else
            results = table.pack(xpcall(no_list, caught, item))
        end
        if not results[1] then
            errs[i] = describe(manager, results[2])
        elseif flags & envelope.PACK ~= 0 then
            values[i] = table.move(results, 2, results.n, 1, { n = results.n - 1 })
        else
            values[i] = results[2]
            if results[2] == nil and results[3] ~= nil then
                reasons = reasons or {}
                reasons[i] = results[3]
            end
        end
    end
    return encoded("m", manager, { values = values, errs = errs, reasons = reasons }, "results")
end

--- What bytes hold, from a place to another one: the kind and the value. Damaged ones are an error.
local function read(manager, bytes, from, to)
    local kind = bytes:sub(from, from)
    local ok, value = pcall(object.decode_part, manager, "Pool", bytes, from + 1, to)
    if ok then return kind, value end
    return "e", { kind = "error", message = tostring(value) }
end

--- Gives an AsyncResult the results or the error of a call.
function outcome.settle(manager, result, bytes, from, to)
    local kind, value = read(manager, bytes, from, to)
    if kind == "r" then return result:set(value) end
    if kind == "n" then return result:set(table.unpack(value, 1, value.n)) end
    result:set_error(errors.new(value))
end

--- The results of a chunk: a list, and the errors and the reasons of nils by their places.
function outcome.chunk(items, n, manager, bytes, from, to, err)
    local kind, value = "e", err
    if bytes then kind, value = read(manager, bytes, from, to) end
    if kind == "m" then
        for i, fields in pairs(value.errs) do
            fields.item = items[i]
            value.errs[i] = errors.new(fields)
        end
        return value.values, value.errs, value.reasons
    end
    local errs = {}
    for i = 1, n do
        local fields = {}
        for k, v in pairs(value) do fields[k] = v end
        fields.item = items[i]
        errs[i] = errors.new(fields)
    end
    return {}, errs
end

return outcome

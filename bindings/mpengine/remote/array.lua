--- Array and Value of a remote manager: elements of a C type, packed in a string of the server's as a local array has
--- them. Local arrays pack and unpack them, so a value that does not fit is refused as they refuse it.
local mp = require "mpengine"
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local lock = require "mpengine.remote.lock"
local object = require "mpengine.remote.object"
local struct = require "mpengine.remote.struct"

local CODES <const> = "^[cubBhHiIlLqQfd]$"

-- ARGV: name, bytes
local INIT = client.script [[
return call('SETNX', P .. 'array:' .. ARGV[1], ARGV[2])
]]

-- ARGV: name, offset, bytes, ...
local PATCH = client.script [[
for i = 2, #ARGV, 2 do call('SETRANGE', P .. 'array:' .. ARGV[1], ARGV[i], ARGV[i + 1]) end
return 1
]]

-- ARGV: name, offset, expected, new: false when it is stored, else what is there
local EXCHANGE = client.script [[
local K = P .. 'array:' .. ARGV[1]
local there = call('GETRANGE', K, ARGV[2], ARGV[2] + #ARGV[3] - 1)
if there ~= ARGV[3] then return there end
call('SETRANGE', K, ARGV[2], ARGV[4])
return false
]]

-- ---- elements --------------------------------------------------------------------------------

local shapes = setmetatable({}, { __mode = "k" }) -- handle -> type, count, size of an element, one element

local function shape(self)
    local known = shapes[self]
    if known then return known end
    local text = object.agree(object.manager_of(self), getmetatable(self).kind, object.name(self), nil, "")
    local code, count = text:match "^(%S+) (%d+)$" -- a code, or a layout
    if not code then error(("%s: '%s' does not exist"):format(getmetatable(self).kind, object.name(self))) end
    local T = #code > 1 and struct.of_layout(code) or nil
    local scratch = mp.RawArray(T or code, 1)
    known = {
        type = T or code, T = T, count = math.tointeger(tonumber(count)), size = #scratch:string(), scratch = scratch,
    }
    shapes[self] = known
    return known
end

local function store(scratch, value) scratch[1] = value end

--- The bytes of an element; raises for a value that does not fit.
---@param what string the call and what the value is in it
local function pack(s, value, what)
    if s.T then value = struct.copied(value) end
    local ok, why = pcall(store, s.scratch, value)
    if not ok then struct.refuse(why, "RawArray: element 1", what) end
    return s.scratch:string()
end

--- The bytes of the items of a list; raises for one that does not fit.
local function pack_all(s, list, call)
    if s.T then
        local copies = {}
        for i = 1, #list do copies[i] = struct.copied(list[i]) end
        list = copies
    end
    local array = mp.RawArray(s.type, #list)
    local ok, why = pcall(array.set, array, list)
    if not ok then struct.refuse(why, "Array:set", call) end
    return array:string()
end

local function length(list) return #list end

--- Is it a table, or an array or list, also a local one?
local function is_list(v) return type(v) == "table" or type(v) == "userdata" and (pcall(length, v)) end

local function unpack_one(s, bytes)
    s.scratch:set_string(bytes)
    return s.scratch[1]
end

--- A local array of these bytes.
local function unpack_all(s, bytes)
    local array = mp.RawArray(s.type, #bytes // s.size)
    array:set_string(bytes)
    return array
end

--- Raises as a local array does when the elements are structs.
local function check_numbers(s, name, call)
    if not s.T then return end
    local array = mp.RawArray(s.T, 1)
    local _, why = pcall(array[name], array, 1, 0, 0)
    struct.refuse(why, "Array:" .. name, call)
end

local function key_of(c, self) return c.prefix .. "array:" .. getmetatable(self).kind .. ":" .. object.name(self) end
local function name_of(self) return getmetatable(self).kind .. ":" .. object.name(self) end

local function read(c, self, s, first, last)
    return c:command(true, { "GETRANGE", key_of(c, self), (first - 1) * s.size, last * s.size - 1 })
end

local function write(c, self, s, first, bytes)
    c:command(true, { "SETRANGE", key_of(c, self), (first - 1) * s.size, bytes })
end

--- The value of an element, or a reference to it when it is a struct.
local function element(c, self, s, i, where)
    if not s.T then return unpack_one(s, read(c, self, s, i, i)) end
    local base = (i - 1) * s.size
    return struct.ref {
        T = s.T, scratch = s.scratch, where = where, key = key_of(c, self) .. " " .. i,
        read = function() return read(c, self, s, i, i) end,
        write = function(parts)
            for k = 1, #parts, 2 do parts[k] = base + parts[k] end
            c:run(true, PATCH, name_of(self), table.unpack(parts))
        end,
    }
end

--- Adds to an element as one step: the new value.
local function add(c, self, s, i, delta)
    local call = getmetatable(self).kind .. ":add"
    check_numbers(s, "add", call)
    if type(delta) ~= "number" then error(("%s: delta must be a number, got %s"):format(call, check.kind(delta))) end
    local old = read(c, self, s, i, i)
    while old do
        local value = unpack_one(s, old)
        local new = pack(s, value + delta, ("%s: the sum %s + %s"):format(call, value, delta))
        local there = c:run(false, EXCHANGE, name_of(self), (i - 1) * s.size, old, new)
        if not there then return unpack_one(s, new) end
        old = there
    end
end

--- Stores a value where the expected one is: true, or false and what is there.
local function exchange(c, self, s, i, expected, desired)
    local call = getmetatable(self).kind .. ":compare_exchange: "
    check_numbers(s, "compare_exchange", getmetatable(self).kind .. ":compare_exchange")
    local old, new = pack(s, expected, call .. "expected"), pack(s, desired, call .. "desired")
    local there = c:run(false, EXCHANGE, name_of(self), (i - 1) * s.size, old, new)
    if not there then return true end
    return false, unpack_one(s, there)
end

--- Makes the bytes, unless they exist; the parameters are the type and the number of elements.
local function open(class, manager, name, code, values, count)
    local self = object.new(class, manager, name)
    if code == nil then
        shape(self)
        return self
    end
    local T = struct.from(code, "Manager:" .. class.kind)
    if not T and (type(code) ~= "string" or not code:find(CODES)) then
        check.wrong("Manager:" .. class.kind, 2, ("a type code or a Struct expected, got %s"):format(tostring(code)))
    end
    object.agree(manager, class.kind, name, ("%s %d"):format(T and T.layout or code, count), "")
    local s = shape(self)
    local bytes = #values > 0 and pack_all(s, values, class.kind) or ""
    client.of(manager):run(true, INIT, name_of(self), bytes .. ("\0"):rep(count * s.size - #bytes))
    return self
end

-- ---- Array -----------------------------------------------------------------------------------

local Array = object.class("Array", "array")
local methods = Array.methods

local function within(call, s, i)
    local n = math.type(i) and math.tointeger(i)
    if not n or n < 1 or n > s.count then
        error(("Array%s: index %s is out of range (1 to %d)"):format(call, tostring(i), s.count))
    end
    return n
end

local function integer(call, what, value, default)
    if value == nil then return default end
    local n = math.type(value) and math.tointeger(value)
    if n then return n end
    local got = math.type(value) and tostring(value) or check.kind(value)
    error(("Array:%s: %s must be an integer, got %s"):format(call, what, got))
end

--- The first and last place of a part, cut to the array.
local function part(call, s, first, last)
    return math.max(1, integer(call, "i", first, 1)), math.min(s.count, integer(call, "j", last, s.count))
end

function methods:totable(first, last)
    local c, s = object.check(self, Array, "totable"), shape(self)
    first, last = part("totable", s, first, last)
    if first > last then return {} end
    return unpack_all(s, read(c, self, s, first, last)):totable()
end

--- Stores the items of a list from place `at` (1) on, in one step.
function methods:set(list, at)
    local c, s = object.check(self, Array, "set"), shape(self)
    if not is_list(list) then check.fail("Array:set", 1, "table", list) end
    at = integer("set", "at", at, 1)
    if #list == 0 then return end
    within(":set", s, at)
    within(":set", s, at + #list - 1)
    write(c, self, s, at, pack_all(s, list, "Array:set"))
end

function methods:fill(value)
    local c, s = object.check(self, Array, "fill"), shape(self)
    write(c, self, s, 1, pack(s, value, "Array:fill: value"):rep(s.count))
end

--- The bytes of some elements.
function methods:string(first, last)
    local c, s = object.check(self, Array, "string"), shape(self)
    first, last = part("string", s, first, last)
    return first > last and "" or read(c, self, s, first, last)
end

--- Stores the bytes of whole elements from place `at` (1) on, in one step.
function methods:set_string(bytes, at)
    local c, s = object.check(self, Array, "set_string"), shape(self)
    check.type("Array:set_string", 1, bytes, "string")
    if #bytes % s.size ~= 0 then
        error(("Array:set_string: %d bytes are not whole elements of %d bytes"):format(#bytes, s.size))
    end
    local n = #bytes // s.size
    at = integer("set_string", "at", at, 1)
    if n == 0 then return end
    within(":set_string", s, at)
    if at + n - 1 > s.count then
        error(("Array:set_string: %d elements from %d on do not fit in %d"):format(n, at, s.count))
    end
    write(c, self, s, at, bytes)
end

-- ---- calculations ----------------------------------------------------------------------------

--- A copy of all elements of one moment, with which a local array calculates.
local function copy(c, self, s) return unpack_all(s, read(c, self, s, 1, s.count)) end

for _, name in ipairs { "sum", "min", "max" } do
    methods[name] = function(self)
        local c, s = object.check(self, Array, name), shape(self)
        local array = copy(c, self, s)
        return array[name](array)
    end
end

--- The sum of the products with an array, of a manager or a local one, of the same type and length.
function methods:dot(other)
    local c, s = object.check(self, Array, "dot"), shape(self)
    if getmetatable(other) == Array then other = copy(object.check(other, Array, "dot"), other, shape(other)) end
    return copy(c, self, s):dot(other)
end

--- The number of elements.
function methods:shape()
    object.check(self, Array, "shape")
    return shape(self).count
end

-- A view would be of a copy, and what changes all elements by what they are would be many steps.
for _, name in ipairs { "view", "field", "reshape", "row", "col", "get", "scale", "axpy" } do
    methods[name] = function(self)
        object.check(self, Array, name)
        error(("Array:%s: an array of a manager of a URL does not have this; totable and set copy its elements")
            :format(name))
    end
end

-- ---- the object ------------------------------------------------------------------------------

--- Adds to an element, as one step: the new value.
function methods:add(i, delta)
    local c, s = object.check(self, Array, "add"), shape(self)
    return add(c, self, s, within(":add", s, i), delta)
end

--- Stores `desired` where `expected` is: true, or false and what is there.
function methods:compare_exchange(i, expected, desired)
    local c, s = object.check(self, Array, "compare_exchange"), shape(self)
    return exchange(c, self, s, within(":compare_exchange", s, i), expected, desired)
end

function Array.__index(self, key)
    local method = methods[key]
    if method then return method end
    local i = math.type(key) and math.tointeger(key)
    local c, s = object.check(self, Array, "__index"), shape(self)
    if not i or i < 1 or i > s.count then return nil end
    return element(c, self, s, i, ("Array: element %d"):format(i))
end

function Array.__newindex(self, key, value)
    local c, s = object.check(self, Array, "__newindex"), shape(self)
    local i = within("", s, key)
    write(c, self, s, i, pack(s, value, ("Array: element %d"):format(i)))
end

function Array.__len(self) return shape(self).count end

--- Makes a handle: type code, and a size or the elements.
function Array.open(manager, name, code, contents)
    if type(contents) == "string" and code == "c" then
        local list = {}
        for i = 1, #contents do list[i] = contents:sub(i, i) end
        contents = list
    end
    if code ~= nil and not is_list(contents) and (math.type(contents) ~= "integer" or contents < 1) then
        check.fail("Manager:Array", 3, "a size, 1 or more, or a table of elements", contents)
    end
    local list = is_list(contents) and contents or {}
    return open(Array, manager, name, code, list, is_list(contents) and #list or contents)
end

-- ---- Value -----------------------------------------------------------------------------------

local Value = object.class("Value", "array")

--- Adds to it, as one step: the new value.
function Value.methods:add(delta)
    local c = object.check(self, Value, "add")
    return add(c, self, shape(self), 1, delta)
end

function Value.methods:compare_exchange(expected, desired)
    local c = object.check(self, Value, "compare_exchange")
    return exchange(c, self, shape(self), 1, expected, desired)
end

function Value.fields:value()
    local c, s = object.check(self, Value, "value"), shape(self)
    return element(c, self, s, 1, "Value")
end

function Value.__newindex(self, key, value)
    local c, s = object.check(self, Value, "__newindex"), shape(self)
    if key ~= "value" then error(("Value: there is no field '%s' to assign to"):format(tostring(key))) end
    write(c, self, s, 1, pack(s, value, "Value: value"))
end

--- Makes a handle: type code, and what it begins with (0).
function Value.open(manager, name, code, initial)
    return open(Value, manager, name, code, initial ~= nil and { initial } or {}, 1)
end

-- ---- their lock ------------------------------------------------------------------------------

for _, class in ipairs { Array, Value } do
    --- The RLock that belongs to it.
    function class.methods:get_lock()
        object.check(self, class, "get_lock")
        return object.new(lock.RLock, object.manager_of(self), class.kind .. " " .. object.name(self))
    end

    for _, name in ipairs { "acquire", "release", "guard", "with" } do
        class.methods[name] = function(self, ...)
            local own = class.methods.get_lock(self)
            return own[name](own, ...)
        end
    end
end

return { Array = Array, Value = Value }

--- Structs of remote arrays: references to an element, to a struct in it, and to a field that is an array. A local
--- array of one element, the scratch, converts: it is loaded with the bytes of the server to read a field; to write one
--- it takes the value, and the bytes of that field go to the server.
local mp = require "mpengine"
local core = require "mpengine.core"
local check = require "mpengine.check"

local struct = {}

--- Where an element is.
---@class mpengine.remote.Place
---@field T mpengine.Struct
---@field scratch mpengine.RawArray one element of it
---@field where string for messages: "Array: element 3"
---@field key string differs between elements
---@field read fun(): string the bytes of the element
---@field write fun(parts: (integer|string)[]) bytes to offsets in the element, in one step: offset, bytes, ...

-- ---- types -----------------------------------------------------------------------------------

--- The Struct of a layout.
---@return mpengine.Struct
function struct.of_layout(layout) return setmetatable({ layout = layout }, core.StructType) end

--- The Struct that a Struct or a list of fields is; nil for other values.
---@param call string for messages
function struct.from(value, call)
    if type(value) ~= "table" or (getmetatable(value) ~= core.StructType and #value == 0) then return nil end
    local ok, made = pcall(mp.Struct, value)
    if not ok then struct.refuse(made, "Struct", call) end
    return made
end

local tables = {} -- layout -> fields in their order, and by name

local function fields_of(T)
    local known = tables[T.layout]
    if known then return known end
    known = T:fields()
    for _, f in ipairs(known) do
        known[f.name] = f
        f.is_struct = type(f.type) ~= "string"
        f.is_list = f.count and f.type ~= "c"
    end
    tables[T.layout] = known
    return known
end

--- Raises what a local array has raised, with the words of this one for the beginning of its own.
function struct.refuse(why, own, words) error((why:gsub("^.-" .. own, function() return words end))) end

-- ---- references ------------------------------------------------------------------------------

local Ref = { __name = "mp.remote.StructRef", __instead = ": store the array, or a copy of it", methods = {} }
local FieldRef = { __name = "mp.remote.FieldRef", __instead = Ref.__instead, methods = {} }
local SELF <const> = {} -- the key of what a reference refers to

--- A reference to a struct of a place: the names that lead to it, and its offset in the element.
local function new_ref(place, T, path, offset)
    return setmetatable({ [SELF] = { place = place, T = T, path = path, offset = offset } }, Ref)
end

--- A reference to an element.
---@param place mpengine.remote.Place
function struct.ref(place) return new_ref(place, place.T, {}, 0) end

local function check_ref(r, class, call)
    if type(r) ~= "table" or getmetatable(r) ~= class then
        check.bad_self(class.__name:match "%a+$" .. ":" .. call, class.__name, r)
    end
    return r[SELF]
end

--- The local struct that is the same part of the scratch element.
local function part(s)
    local r = s.place.scratch[1]
    for _, name in ipairs(s.path) do r = r[name] end
    return r
end

--- The same, with what the server has.
local function load(s)
    s.place.scratch:set_string(s.place.read())
    return part(s)
end

--- A value in which copies stand for references to the server.
local function copied(value)
    local class = type(value) == "table" and getmetatable(value)
    if class == Ref then return load(value[SELF]):get() end
    if class == FieldRef then return value:totable() end
    if class ~= nil or type(value) ~= "table" then return value end
    local copy = {}
    for k, v in pairs(value) do
        local is_ref = type(v) == "table" and (getmetatable(v) == Ref or getmetatable(v) == FieldRef)
        copy[k] = is_ref and copied(v) or v
    end
    return copy
end

struct.copied = copied

--- Runs a function that stores to a local struct; raises in the words of this one.
local function convert(s, f, ...)
    local ok, why = pcall(f, part(s), ...)
    if not ok then struct.refuse(why, "RawArray: element 1", s.place.where) end
end

--- What a write has to send of the scratch element.
local function bytes_of(s, parts, offset, size)
    parts[#parts + 1] = s.offset + offset
    parts[#parts + 1] = s.place.scratch:string():sub(s.offset + offset + 1, s.offset + offset + size)
    return parts
end

local function field_bytes(f) return f.size * (f.count or 1) end

-- ---- to a struct -----------------------------------------------------------------------------

--- The reference that a field gives; nil for one that gives a value.
local function inner(s, f)
    if not f.is_struct and not f.is_list then return nil end
    local path = table.move(s.path, 1, #s.path, 1, {})
    if f.is_list then
        local of_field = { place = s.place, T = s.T, path = path, offset = s.offset, field = f }
        return setmetatable({ [SELF] = of_field }, FieldRef)
    end
    path[#path + 1] = f.name
    return new_ref(s.place, f.type, path, s.offset + f.offset)
end

function Ref:__index(key)
    local s = rawget(self, SELF)
    local f = type(key) == "string" and fields_of(s.T)[key]
    if f then return inner(s, f) or load(s)[key] end
    local method = Ref.methods[key]
    if not method then convert(s, function(r) return r[key] end) end
    return method
end

local function assign(r, key, value) r[key] = value end

function Ref:__newindex(key, value)
    local s = rawget(self, SELF)
    value = copied(value)
    convert(s, assign, key, value)
    local f = fields_of(s.T)[key]
    s.place.write(bytes_of(s, {}, f.offset, field_bytes(f)))
end

--- A copy of all fields, of one moment.
function Ref.methods:get() return load(check_ref(self, Ref, "get")):get() end

--- Writes the fields that a table has, in one step.
function Ref.methods:set(t)
    local s, parts = check_ref(self, Ref, "set"), {}
    t = copied(t)
    local r = part(s)
    local ok, why = pcall(r.set, r, t)
    if not ok then struct.refuse(why, "StructRef:set", "StructRef:set") end
    for key in pairs(t) do
        local f = fields_of(s.T)[key]
        bytes_of(s, parts, f.offset, field_bytes(f))
    end
    if #parts > 0 then s.place.write(parts) end
end

function Ref:__pairs()
    local s = check_ref(self, Ref, "__pairs")
    local fields, copy, i = fields_of(s.T), load(s):get(), 0
    return function()
        i = i + 1
        local f = fields[i]
        if f then return f.name, inner(s, f) or copy[f.name] end
    end
end

local function is_same(a, b)
    a, b = rawget(a, SELF), rawget(b, SELF)
    return a.place.key == b.place.key and a.offset == b.offset and a.T.layout == b.T.layout and a.field == b.field
end

function Ref.__eq(a, b) return getmetatable(a) == getmetatable(b) and is_same(a, b) end

function Ref:__tostring() return (tostring(load(rawget(self, SELF))):gsub("^mp", "mp.remote")) end

-- ---- to a field that is an array -------------------------------------------------------------

local function index(s, k)
    k = math.type(k) and math.tointeger(k)
    return k and k >= 1 and k <= s.field.count and k or nil
end

function FieldRef:__index(key)
    local s = rawget(self, SELF)
    local k = index(s, key)
    if k then return load(s)[s.field.name][k] end
    return FieldRef.methods[key]
end

function FieldRef:__newindex(key, value)
    local s = rawget(self, SELF)
    convert(s, function(r) r[s.field.name][key] = value end)
    local f = s.field
    s.place.write(bytes_of(s, {}, f.offset + (index(s, key) - 1) * f.size, f.size))
end

function FieldRef:__len() return rawget(self, SELF).field.count end

--- The elements, as a list.
function FieldRef.methods:totable()
    local s = check_ref(self, FieldRef, "totable")
    return load(s)[s.field.name]:totable()
end

--- Stores as many elements, in one step.
function FieldRef.methods:set(list)
    local s = check_ref(self, FieldRef, "set")
    local v = part(s)[s.field.name]
    local ok, why = pcall(v.set, v, copied(list))
    if not ok then struct.refuse(why, "FieldRef:set", "FieldRef:set") end
    s.place.write(bytes_of(s, {}, s.field.offset, field_bytes(s.field)))
end

FieldRef.__eq = Ref.__eq

function FieldRef:__tostring()
    local s = rawget(self, SELF)
    return (tostring(load(s)[s.field.name]):gsub("^mp", "mp.remote"))
end

return struct

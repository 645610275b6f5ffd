--- The sources of a map's items: lists, shared lists and arrays, and iterators as in a for loop,
--- with their state and first value. Used by mp.Pool and co.Pool.
local check = require "mpengine.check"

local source = {}

local SHARED <const> = { ["mp.List"] = "copy", ["mp.Array"] = "totable", ["mp.RawArray"] = "totable",
    ["mp.ArrayView"] = "totable" }

--- The name of the method that makes a table of a shared list or array.
local function reader_of(value)
    local meta = type(value) == "userdata" and getmetatable(value)
    return type(meta) == "table" and SHARED[rawget(meta, "__name")]
end

local function is_callable(value)
    if type(value) == "function" then return true end
    local meta = debug.getmetatable(value)
    return type(meta) == "table" and type(rawget(meta, "__call")) == "function"
end

--- A table with the items of a list, for argument n of a call.
function source.list(call, n, value)
    local reader = reader_of(value)
    if reader then return value[reader](value) end
    if type(value) ~= "table" then check.fail(call, n, "table or shared list", value) end
    return value
end

-- ---- lists ----

local function next_of_list(self)
    local at = self.at + 1
    if at > self.total then return false end
    self.at = at
    return true, self.items[at]
end

--- Moves the next n items of a list, or the remaining ones, to `to` from place `first` on; returns
--- how many.
function source.move(self, to, first, n)
    local at = self.at
    n = math.min(n, self.total - at)
    table.move(self.items, at + 1, at + n, first, to)
    self.at = at + n
    return n
end

local function of_list(items)
    return { next = next_of_list, items = items, at = 0, total = #items }
end

-- ---- iterators ----

--- Takes the values of one call of the iterator. Several values form one item: a list with n. The
--- first item decides which form is used.
local function took(self, first, second, ...)
    if first == nil then
        source.close(self)
        return false
    end
    self.control = first
    if self.spread == nil then self.spread = second ~= nil end
    if self.spread then return true, table.pack(first, second, ...) end
    return true, first
end

local function next_of_iterator(self) return took(self, self.step(self.state, self.control)) end

--- Ends it, as the end of a for loop does; a second call is harmless.
function source.close(self)
    local closing = self.closing
    self.closing = nil
    local meta = closing and debug.getmetatable(closing)
    if meta and meta.__close then meta.__close(closing, nil) end
end

--- True if the one argument after an iterator is a table of options, false if it is its state.
--- `next` needs a state.
local function is_options(step, value)
    return value == nil or type(value) == "table" and not rawequal(step, next)
end

--- Finds the options among the values after an iterator: alone, or last after its state, first
--- value and possibly the value that is closed in the end.
local function split(step, count, state, control, closing, opts)
    if count <= 1 and is_options(step, state) then return nil, nil, nil, state end
    local meta = closing and debug.getmetatable(closing)
    if count == 3 and type(closing) == "table" and not (meta and meta.__close) then
        return state, control, nil, closing
    end
    return state, control, closing, opts
end

local function is_list(value)
    return reader_of(value) or type(value) == "table" and not is_callable(value)
end

--- Is the value one that source.of accepts?
function source.is_one(value) return is_list(value) or is_callable(value) end

--- source.of(call, value, ...) -> a source, and the options. source:next() -> true, item, or false
--- at the end, and may wait; source.total, the number of items if it is known; source.spread, true
--- if items are lists of several values, known after the first item.
function source.of(call, value, ...)
    if is_list(value) then return of_list(value), (...) end
    if not is_callable(value) then check.fail(call, 2, "table, shared list or iterator", value) end
    local self = { next = next_of_iterator, step = value }
    local opts
    self.state, self.control, self.closing, opts = split(value, select("#", ...), ...)
    return self, opts
end

return source

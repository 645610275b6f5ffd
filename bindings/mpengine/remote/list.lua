--- The list of a remote manager: a list of encoded items. Each call is one step of the server's, but for those
--- that need Lua's equality or order: these read the list, and write only if nothing has changed.
local check = require "mpengine.check"
local client = require "mpengine.remote.client"
local object = require "mpengine.remote.object"

local List = object.class("List", "list")
local methods = List.methods

local NAME <const> = "List:"

-- ---- scripts ---------------------------------------------------------------------------------

local COMMON <const> = [[
local K = P .. 'list:' .. ARGV[1]
]]

-- ARGV: index, value. Writes an item, or appends at the place behind the last. 0: the index is further out.
local SET = client.script(COMMON .. [[
local i, n = tonumber(ARGV[2]), call('LLEN', K)
if i == n + 1 then
    call('RPUSH', K, ARGV[3])
elseif i <= n then
    call('LSET', K, i - 1, ARGV[3])
else
    return 0
end
return 1
]])

-- ARGV: index, value
local INSERT = client.script(COMMON .. [[
local i, n = tonumber(ARGV[2]), call('LLEN', K)
if i < 0 then i = math.max(1, n + 1 + i) end
if i > n then return call('RPUSH', K, ARGV[3]) end
if i <= 1 then return call('LPUSH', K, ARGV[3]) end
local rest = call('LRANGE', K, i - 1, -1)
call('LTRIM', K, 0, i - 2)
call('RPUSH', K, ARGV[3])
for first = 1, #rest, 500 do call('RPUSH', K, unpack(rest, first, math.min(#rest, first + 499))) end
return n + 1
]])

-- ARGV: index, then what must be there, if anything
local REMOVE = client.script(COMMON .. [[
local i = tonumber(ARGV[2])
local item = call('LINDEX', K, i)
if not item or ARGV[3] and item ~= ARGV[3] then return false end
call('LSET', K, i, '\1removed')
call('LREM', K, 1, '\1removed')
return item
]])

-- ARGV: the items with their lengths as they are expected, then the new ones. 0: they are others.
local REPLACE = client.script(COMMON .. [[
local old = call('LRANGE', K, 0, -1)
for i, item in ipairs(old) do old[i] = #item .. ':' .. item end
if table.concat(old) ~= ARGV[2] then return 0 end
call('DEL', K)
for first = 3, #ARGV, 500 do call('RPUSH', K, unpack(ARGV, first, math.min(#ARGV, first + 499))) end
return 1
]])

-- ---- items -----------------------------------------------------------------------------------

local function key_of(c, self) return c.prefix .. "list:" .. object.name(self) end

local function encode(self, call, value, n)
    if value == nil then check.wrong(NAME .. call, n, "an item cannot be nil") end
    return object.encode(object.manager_of(self), NAME .. call, value)
end

local function decode(self, call, bytes) return object.decode(object.manager_of(self), NAME .. call, bytes) end

--- All items as they are stored.
local function stored(self, call)
    local c = object.check(self, List, call)
    return c:command(true, { "LRANGE", key_of(c, self), 0, -1 }), c
end

local function decoded(self, call, items)
    local list = {}
    for i, bytes in ipairs(items) do list[i] = decode(self, call, bytes) end
    return list
end

local function check_index(call, i)
    local n = math.tointeger(i)
    if not n then check.fail(NAME .. call, 1, "integer", i) end
    return n
end

-- ---- methods ---------------------------------------------------------------------------------

function methods:append(value)
    local c = object.check(self, List, "append")
    c:command(false, { "RPUSH", key_of(c, self), encode(self, "append", value, 1) })
end

--- Appends the items of a table or a list, in one step.
function methods:extend(list)
    local c = object.check(self, List, "extend")
    if getmetatable(list) == List then list = list:copy() end
    local fits = type(list) == "table" or check.kind(list) == "mp.List"
    if not fits then check.fail("List:extend", 1, "table or List", list) end
    local words = { "RPUSH", key_of(c, self) }
    for i = 1, #list do words[i + 2] = encode(self, "extend", list[i], 1) end
    if #words > 2 then c:command(false, words) end
end

--- Inserts before item i; beyond the end it appends, -1 is before the last.
function methods:insert(i, value)
    local c = object.check(self, List, "insert")
    local n = check_index("insert", i)
    if n == 0 then check.wrong("List:insert", 1, "indices start at 1") end
    c:run(false, INSERT, object.name(self), n, encode(self, "insert", value, 2))
end

--- Removes the last item, or item i, -1 being the last; nil when there is none.
function methods:pop(i)
    local c = object.check(self, List, "pop")
    local n = i == nil and -1 or check_index("pop", i)
    if n == 0 then check.wrong("List:pop", 1, "indices start at 1") end
    return decode(self, "pop", c:run(false, REMOVE, object.name(self), n > 0 and n - 1 or n) or nil)
end

local function find(self, call, items, value)
    for i, bytes in ipairs(items) do
        if decode(self, call, bytes) == value then return i end
    end
    return nil
end

--- The place of the first item equal to a value, or nil.
function methods:index(value) return find(self, "index", (stored(self, "index")), value) end

--- Removes the first item equal to a value; an error when there is none.
function methods:remove(value)
    while true do
        local items, c = stored(self, "remove")
        local i = find(self, "remove", items, value)
        if not i then error(("List:remove: %s is not in the list"):format(tostring(value))) end
        if c:run(false, REMOVE, object.name(self), i - 1, items[i]) then return end
    end
end

--- Writes what `change` makes of the items; again when others have changed them meanwhile.
local function replace(self, call, change)
    while true do
        local items, c = stored(self, call)
        local sized = {}
        for i, bytes in ipairs(items) do sized[i] = #bytes .. ":" .. bytes end
        local old = table.concat(sized)
        if c:run(false, REPLACE, object.name(self), old, table.unpack(change(items))) == 1 then return end
    end
end

--- Sorts the items, in a stable order.
---@param less? fun(a: any, b: any): boolean
function methods:sort(less)
    object.check(self, List, "sort")
    if less ~= nil then check.callable("List:sort", 1, less) end
    less = less or function(a, b) return a < b end
    replace(self, "sort", function(items)
        local order = {}
        for i, value in ipairs(decoded(self, "sort", items)) do order[i] = { value, i, items[i] } end
        local ok, err = pcall(table.sort, order, function(a, b)
            if less(a[1], b[1]) then return true end
            if less(b[1], a[1]) then return false end
            return a[2] < b[2]
        end)
        if not ok and type(err) == "string" and err:find "^invalid order function" then error("List:sort: " .. err) end
        if not ok then error(err, 0) end
        for i, entry in ipairs(order) do order[i] = entry[3] end
        return order
    end)
end

function methods:reverse()
    replace(self, "reverse", function(items)
        local back = {}
        for i, bytes in ipairs(items) do back[#items + 1 - i] = bytes end
        return back
    end)
end

function methods:clear()
    local c = object.check(self, List, "clear")
    c:command(true, { "DEL", key_of(c, self) })
end

--- A plain table with the items of one moment.
function methods:copy() return decoded(self, "copy", (stored(self, "copy"))) end

-- ---- as a table ------------------------------------------------------------------------------

function List.__index(self, key)
    local method = methods[key]
    if method then return method end
    local i = math.type(key) and math.tointeger(key)
    if not i or i < 1 then return nil end
    local c = object.check(self, List, "__index")
    return decode(self, "__index", c:command(true, { "LINDEX", key_of(c, self), i - 1 }) or nil)
end

function List.__newindex(self, key, value)
    local c = object.check(self, List, "__newindex")
    local i = math.type(key) and math.tointeger(key)
    if not i or i < 1 then error(("List: an index must be an integer, 1 or more, got %s"):format(tostring(key))) end
    if c:run(true, SET, object.name(self), i, encode(self, "__newindex", value, 2)) == 0 then
        error(("List: index %d is out of range"):format(i))
    end
end

function List.__len(self)
    local c = object.check(self, List, "__len")
    return c:command(true, { "LLEN", key_of(c, self) })
end

--- Walks the items of one moment.
function List.__pairs(self) return ipairs(methods.copy(self)) end

--- Makes a handle; a table is what a list begins with that does not exist.
function List.open(manager, name, contents)
    local self = object.new(List, manager, name)
    if contents ~= nil then
        check.type("Manager:list", 2, contents, "table")
        local items = {}
        for i = 1, #contents do items[i] = encode(self, "extend", contents[i], 1) end
        if #items > 0 then client.of(manager):run(true, REPLACE, name, "", table.unpack(items)) end
    end
    return self
end

return { class = List }

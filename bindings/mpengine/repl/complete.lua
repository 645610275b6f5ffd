--- What Tab does in the interactive mode: completes names. After `.` those of a table's fields, after `:`
--- those that can be called; of the library's modules and objects also what is loaded at its first use.
--- Nothing of the script is called: metatables are followed where __index is a table.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local help = require "mpengine.repl.help"
local show = require "mpengine.repl.show"

local complete = {}

local MOST <const> = 200   -- names that are listed
local DEEPEST <const> = 20 -- metatables
local KEYS <const> = 10000 -- of a shared dict that are looked at
local INDENT <const> = "    "

-- ---- fields ----

local function index_of(value)
    local meta = debug.getmetatable(value)
    return type(meta) == "table" and rawget(meta, "__index") or nil
end

local function methods_of(value)
    local meta = debug.getmetatable(value)
    local methods = type(meta) == "table" and rawget(meta, "methods")
    return type(methods) == "table" and methods or nil
end

local function is_dict(value)
    local meta = type(value) == "userdata" and core.handle(value) and debug.getmetatable(value)
    return meta and meta.__name == "mp.Dict"
end

-- The field without a call of the script's code; nil when there is none.
local function field(value, key, depth)
    depth = depth or 0
    if type(value) == "table" then
        local found = rawget(value, key)
        if found ~= nil then return found end
        if help.module_of(value) then return value[key] end
    end
    local methods = methods_of(value)
    if methods and rawget(methods, key) ~= nil then return rawget(methods, key) end
    if is_dict(value) then return value:get(key) end
    local index = index_of(value)
    if type(index) == "table" and depth < DEEPEST then return field(index, key, depth + 1) end
end

local function can_be_called(value)
    if type(value) == "function" then return true end
    local meta = debug.getmetatable(value)
    return type(meta) == "table" and rawget(meta, "__call") ~= nil
end

-- Adds the names of the fields to a set.
local function add_fields(set, value, methods_only, depth)
    local function add_all(t)
        for key, v in next, t do
            if show.is_name(key) and (not methods_only or can_be_called(v)) then set[key] = true end
        end
    end
    if type(value) == "table" then add_all(value) end
    local methods = methods_of(value)
    if methods then add_all(methods) end
    local known = help.class_of(value) or help.module_of(value)
    for _, name in ipairs(known and help.names_of(known) or {}) do
        if not methods_only or can_be_called(field(value, name)) then set[name] = true end
    end
    if is_dict(value) and not methods_only and #value <= KEYS then
        for _, key in ipairs(value:keys()) do
            if show.is_name(key) then set[key] = true end
        end
    end
    local index = index_of(value)
    if type(index) == "table" and depth < DEEPEST then add_fields(set, index, methods_only, depth + 1) end
end

-- ---- the expression before the cursor ----

-- The value of a path such as `a.b[1].c`, and whether there is one; the end of a longer text.
local function value_of(text)
    local before, key = text:match "^(.-)%[%s*(%-?%d+)%s*%]%s*$"
    if before then key = math.tointeger(tonumber(key)) end
    if not before then before, key = text:match "^(.-)%[%s*[\"']([^\"'%]]*)[\"']%s*%]%s*$" end
    if not before then
        if text:find "[\"']%s*%)?%s*$" then return "", true end -- a string
        local word
        before, word = text:match "^(.-)([%a_][%w_]*)%s*$"
        if not word or show.RESERVED[word] then return nil, false end
        before, key = before:gsub("%s+$", ""), word
        local mark = before:sub(-1)
        if mark ~= "." and mark ~= ":" or before:sub(-2) == ".." then
            local value = field(_G, key)
            return value, value ~= nil
        end
        before = before:sub(1, -2)
    end
    local owner, found = value_of(before)
    if not found then return nil, false end
    local value = field(owner, key)
    return value, value ~= nil
end

-- Names that the chunk so far declares.
local function add_locals(set, text)
    local function add(list)
        for name in list:gmatch "[%a_][%w_]*" do set[name] = true end
    end
    for list in text:gmatch "%f[%w_]local%s+([%w_,%s]+)" do add(list:match "^[^=\n]*") end
    for list in text:gmatch "%f[%w_]for%s+([%w_,%s]-)%s+in%f[%W]" do add(list) end
    for name in text:gmatch "%f[%w_]for%s+([%w_]+)%s*=" do add(name) end
    for list in text:gmatch "%f[%w_]function[%w_.:%s]*%(([%w_,%s.]*)%)" do add(list) end
end

-- The set of names that fit, the beginning that is there already, and what ends the word.
local function candidates(text, chunk)
    local set = {}
    local quoted = text:match "%f[%w_]help%s*%(?%s*[\"']([%w_.:]*)$"
    if quoted then
        for _, name in ipairs(help.names()) do set[name] = true end
        return set, quoted
    end
    local before, word = text:match "^(.-)([%a_][%w_]*)$"
    if not before then before, word = text, "" end
    local path, mark = before:match "^(.-)([.:])%s*$"
    if path and path:sub(-1) ~= "." and not path:find "%d%s*$" then
        local value, found = value_of(path)
        if found then add_fields(set, value, mark == ":", 0) end
        return set, word
    end
    if word == "" then return set, word end
    add_fields(set, _G, false, 0)
    for name in pairs(show.RESERVED) do set[name] = true end
    add_locals(set, chunk .. "\n" .. before)
    return set, word
end

-- ---- the answer ----

local function fitting(set, word)
    local list = {}
    for name in pairs(set) do
        local is_private = name:sub(1, 1) == "_" and word:sub(1, 1) ~= "_"
        if name:sub(1, #word) == word and not is_private then list[#list + 1] = name end
    end
    table.sort(list)
    return list
end

local function common_start(list)
    local first, last = list[1], list[#list] -- in order, so these differ first
    local n = 0
    while n < #first and first:byte(n + 1) == last:byte(n + 1) do n = n + 1 end
    return first:sub(1, n)
end

-- Names in columns, as ls has them.
local function columns_of(list, room)
    local width, shown = 0, math.min(#list, MOST)
    for i = 1, shown do width = math.max(width, #list[i] + 2) end
    local rows = math.ceil(shown / math.max(1, room // width))
    local lines = {}
    for row = 1, rows do
        local line = {}
        for i = row, shown, rows do line[#line + 1] = list[i] .. (" "):rep(width - #list[i]) end
        lines[row] = table.concat(line):gsub("%s+$", "")
    end
    if #list > shown then lines[#lines + 1] = ("… %d more"):format(#list - shown) end
    return table.concat(lines, "\n")
end

--- What to insert behind the text before the cursor, and names to choose from, as a text. nil: nothing fits.
---@param text string the line up to the cursor
---@param chunk string the lines before it
---@param room integer columns
---@return string? insert
---@return string? list
function complete.at(text, chunk, room)
    if not text:find "%S" then return INDENT end
    local set, word = candidates(text, chunk)
    local list = fitting(set, word)
    if #list == 0 then return nil end
    local more = common_start(list):sub(#word + 1)
    if more ~= "" or #list == 1 then return more end
    return "", columns_of(list, room)
end

return complete

--- Values as the interactive mode shows them: tables and shared containers with what they contain, to a
--- certain depth and number, in one line where it fits. No method of the script is called but __tostring.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore

local show = {}

local DEPTH <const> = 4      -- tables in tables
local ENTRIES <const> = 50   -- of a table
local ALL <const> = 1000     -- entries in all
local STRING <const> = 200   -- bytes of a string within a table
local TEXT <const> = 32768   -- bytes of a string by itself
local SNAPSHOT <const> = 10000 -- entries of a shared dict that are copied to show some of them
local NARROW <const> = 20    -- columns that there are in any case
local SHORT <const> = 16     -- bytes of an entry that shares a line with others

local RESERVED <const> = {}
for word in ([[and break do else elseif end false for function goto if in local nil not or repeat return then true
    until while]]):gmatch "%a+" do RESERVED[word] = true end
show.RESERVED = RESERVED

local function is_name(key)
    return type(key) == "string" and key:find "^[%a_][%w_]*$" ~= nil and not RESERVED[key]
end
show.is_name = is_name

-- ---- strings ----

local ESCAPES <const> = { ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t", ["\\"] = "\\\\", ['"'] = '\\"' }

-- As it would be written in Lua; bytes of UTF-8 stay as they are.
local function quoted(text, most)
    local cut = #text > most and text:sub(1, (utf8.offset(text, 0, most + 1) or most + 1) - 1) or text
    local function escape(c) return ESCAPES[c] or ("\\x%02x"):format(c:byte()) end
    local whole = cut:gsub('[%c"\\\x7f]', escape)
    if not utf8.len(cut) then whole = whole:gsub("[\x80-\xff]", escape) end
    if #cut == #text then return '"' .. whole .. '"' end
    return ('"%s…" (%d bytes)'):format(whole, #text)
end

local function plain_string(text)
    if text:find "[^\n\t\x20-\x7e\x80-\xff]" or not utf8.len(text) then return quoted(text, TEXT) end
    if #text <= TEXT then return text end
    return ("%s…\n(%d bytes)"):format(text:sub(1, (utf8.offset(text, 0, TEXT + 1) or TEXT + 1) - 1), #text)
end

-- ---- one value ----

local function name_of(value)
    local ok, text = pcall(tostring, value)
    return ok and type(text) == "string" and text or ("(%s whose __tostring fails)"):format(type(value))
end

local function function_text(f)
    local info = debug.getinfo(f, "S")
    if info.what == "C" or info.source:sub(1, 1) == "=" and info.linedefined <= 0 then return name_of(f) end
    return ("%s (%s:%d)"):format(name_of(f), info.short_src, info.linedefined)
end

local RANK <const> = { number = 1, string = 2, boolean = 3 }

local function key_before(a, b)
    local x, y = RANK[type(a)] or 4, RANK[type(b)] or 4
    if x ~= y then return x < y end
    if x <= 2 then return a < b end
    return x == 3 and a and not b
end

-- The list of the values 1, 2 … without a key, and of { key, value } in order of the keys; how many are left out.
local function entries_of(t)
    local list, keys, left_out = {}, {}, 0
    local function add(key, value)
        if #list + #keys >= ENTRIES then
            left_out = left_out + 1
        else
            keys[#keys + 1] = { key, value }
        end
    end
    local length = 0
    while length < ENTRIES and rawget(t, length + 1) ~= nil do
        length = length + 1
        list[length] = { nil, rawget(t, length) }
    end
    for key, value in next, t do
        if not (math.type(key) == "integer" and key >= 1 and key <= length) then add(key, value) end
    end
    table.sort(keys, function(a, b) return key_before(a[1], b[1]) end)
    table.move(keys, 1, #keys, #list + 1, list)
    return list, left_out
end

local Writer = {}
Writer.__index = Writer

-- Short parts share lines; others have one each.
local function lines_of(parts, room)
    local lines, line = {}, nil
    for _, part in ipairs(parts) do
        if line and #line + #part + 4 <= room and #part <= SHORT then
            line = ("%s, %s"):format(line, part)
        else
            lines[#lines + 1] = line and line .. ","
            line = "  " .. part:gsub("\n", "\n  ")
        end
        if #part > SHORT then lines[#lines + 1], line = line .. ",", nil end
    end
    lines[#lines + 1] = line
    return lines
end

local function joined(open, parts, room)
    if #parts == 0 then return open .. "{}" end
    local size, has_lines = #open + 4, false
    for _, part in ipairs(parts) do
        size = size + #part + 2
        has_lines = has_lines or part:find("\n", 1, true) ~= nil
    end
    if size <= room and not has_lines then return ("%s{ %s }"):format(open, table.concat(parts, ", ")) end
    return ("%s{\n%s\n}"):format(open, table.concat(lines_of(parts, room), "\n"))
end

local function key_text(self, key, depth)
    if is_name(key) then return key .. " = " end
    local text = type(key) == "string" and quoted(key, STRING) or type(key) == "table" and name_of(key)
        or self:value(key, depth)
    return ("[%s] = "):format(text)
end

-- Entries as a table constructor; `open` is before it.
function Writer:contents(open, entries, left_out, depth)
    local parts = {}
    for i, entry in ipairs(entries) do
        if self.left <= 0 then
            left_out = left_out + #entries - i + 1
            break
        end
        self.left = self.left - 1
        local key = entry[1] ~= nil and key_text(self, entry[1], depth) or ""
        parts[#parts + 1] = key .. self:value(entry[2], depth + 1)
    end
    if left_out > 0 then parts[#parts + 1] = ("… %d more"):format(left_out) end
    return joined(open, parts, math.max(NARROW, self.room - 2 * depth))
end

function Writer:table(t, depth)
    local meta = debug.getmetatable(t)
    if type(meta) == "table" and rawget(meta, "__tostring") ~= nil then return name_of(t) end
    local name = type(meta) == "table" and rawget(meta, "__name")
    local open = type(name) == "string" and name .. " " or ""
    if self.within[t] then return open .. "{ … cycle }" end
    if depth >= DEPTH then return open .. (next(t) == nil and "{}" or "{ … }") end
    self.within[t] = true
    local entries, left_out = entries_of(t)
    local text = self:contents(open, entries, left_out, depth)
    self.within[t] = nil
    return text
end

-- ---- shared objects ----

local function of_dict(d)
    if #d > SNAPSHOT then return {}, #d end
    local all = d:copy()
    return entries_of(all)
end

local function of_sequence(l)
    local entries, length = {}, #l
    for i = 1, math.min(length, ENTRIES) do entries[i] = { nil, l[i] } end
    return entries, math.max(0, length - ENTRIES)
end

local CONTAINERS <const> = {
    ["mp.Dict"] = of_dict, ["mp.List"] = of_sequence, ["mp.Array"] = of_sequence, ["mp.RawArray"] = of_sequence,
    ["mp.ArrayView"] = of_sequence,
}
local VALUES <const> = { ["mp.Value"] = true, ["mp.RawValue"] = true }

function Writer:shared(object, depth)
    local meta = debug.getmetatable(object)
    local contents = CONTAINERS[meta.__name]
    if VALUES[meta.__name] then return ("%s = %s"):format(name_of(object), self:value(object.value, depth)) end
    local handle = core.handle(object)
    if self.within[handle] then return name_of(object) .. " { … cycle }" end
    if not contents or depth >= DEPTH then return name_of(object) end
    self.within[handle] = true
    local ok, entries, left_out = pcall(contents, object)
    local text = ok and self:contents(name_of(object) .. " ", entries, left_out, depth) or name_of(object)
    self.within[handle] = nil
    return text
end

function Writer:value(value, depth)
    local kind = type(value)
    if kind == "string" then return quoted(value, STRING) end
    if kind == "table" then return self:table(value, depth) end
    if kind == "function" then return function_text(value) end
    if kind == "userdata" and core.handle(value) then return self:shared(value, depth) end
    return name_of(value)
end

--- A value as a text; a string by itself is not quoted, as long as it can be read.
---@param value any
---@param room integer columns
---@return string
function show.value(value, room)
    if type(value) == "string" then return plain_string(value) end
    return setmetatable({ room = room, left = ALL, within = {} }, Writer):value(value, 0)
end

--- The values of a chunk: in one line as by print, unless one of them needs several.
---@param room integer columns
---@param ... any
---@return string
function show.values(room, ...)
    local texts, separator = {}, "\t"
    for i = 1, select("#", ...) do
        texts[i] = show.value((select(i, ...)), room)
        if texts[i]:find("\n", 1, true) or type(select(i, ...)) == "table" then separator = "\n" end
    end
    return table.concat(texts, separator)
end

return show

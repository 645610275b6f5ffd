--- help in the interactive mode: what the annotations say of a function, a class or a value. They are in the
--- program as a text, which is read at the first use.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local annotations = require "mpengine.repl.annotations"

local help = {}

local INTRO <const> = [[
help "name" or help(x) says what a function, a class or an object is; "mp" is what there is:
  help "mp"     help "mp.Queue"     help "Queue:put"     help "timeout"
The library is a module, as in a script; what it has, and what it makes, has help, too:
  mp = require "mpengine"     q = mp.Queue()     help(q)     help(mp.co.spawn)
Tab completes names, also after . and :   The arrows and Ctrl-R find earlier lines.
A line that begins with = or is an expression shows its values. Ctrl-C leaves a line or interrupts a
chunk, Ctrl-D ends. Tasks run while the prompt waits. The manual is docs/ of the sources, and of
/usr/share/doc/mpengine, where the package is installed.]]

local LUA_MANUAL <const> = ("https://www.lua.org/manual/%s/manual.html#pdf-"):format(_VERSION:match "%d+%.%d+")
local FOUND_MOST <const> = 20
local NARROW <const>, WIDE <const> = 80, 100 -- columns without a terminal; at most
local SENTENCE <const> = 60 -- bytes
local WALK_MOST <const> = 20000 -- values of the library that are looked at

local functions, classes -- of the annotations

local function load()
    if functions then return end
    local ok, text = pcall(require, "mpengine.library")
    functions, classes = annotations.parse((ok and text or ""):gmatch "([^\n]*)\n")
end

-- ---- texts ----

local function id_of(f) return f.class .. "." .. f.name end

-- As a script writes it: "mp.co", of what is a module in mp.
local function module_name(name) return name:find "^%l+$" and name ~= "mp" and "mp." .. name or name end

local function signature_of(f)
    local module, rest = f.signature:match "^(%l+)(%.[%w_]+%(.*)$"
    return module and module_name(module) .. rest or f.signature
end

local function short(kind) return (kind:gsub("mpengine%.", "mp.")) end

-- "integer, what is said", of "integer what is said".
local function type_text(text)
    local kind, words = annotations.split_type(text)
    return short(words == "" and kind or kind .. ", " .. words)
end

local function add_list(out, list)
    for _, entry in ipairs(list) do
        local name, rest = entry:match "^(%S+)%s*(.*)$"
        out[#out + 1] = ("  %-12s %s"):format(name, type_text(rest))
    end
end

-- A paragraph, in lines that fit the terminal.
local function add_text(out, text)
    local _, columns = core.terminal_size(1)
    local room, line = math.min(columns or NARROW, WIDE) - 1, " "
    for word in table.concat(text, " "):gmatch "%S+" do
        if #line + 1 + #word > room and line ~= " " then
            out[#out + 1], line = line, " "
        end
        line = line .. " " .. word
    end
    if line ~= " " then out[#out + 1] = line end
end

local function function_lines(f)
    local out = { signature_of(f) }
    add_text(out, f.text)
    add_list(out, f.params)
    for _, result in ipairs(f.returns) do out[#out + 1] = "  returns " .. type_text(result) end
    for _, overload in ipairs(f.overloads) do out[#out + 1] = "  also " .. short(overload) end
    if f.waits then out[#out + 1] = "  May wait, and suspends only the calling task." end
    return out
end

-- Or as much of it as fits behind a signature.
local function first_sentence(f)
    local text = table.concat(f.text, " ")
    text = text:match "^(.-)%.%s" or text:match "^(.-)%.?$"
    if #text <= SENTENCE then return text end
    return text:sub(1, SENTENCE):match "^(.*)%s" .. " …"
end

local function add_methods(out, class)
    for _, f in ipairs(functions) do
        if f.class == class.name then
            out[#out + 1] = (("  %-30s %s"):format(signature_of(f), first_sentence(f)):gsub("%s+$", ""))
        end
    end
    for _, parent in ipairs(class.parents) do
        if classes[parent] then add_methods(out, classes[parent]) end
    end
end

local function class_lines(class)
    local out = { module_name(class.name) }
    add_text(out, class.text)
    add_list(out, class.fields)
    add_methods(out, class)
    return out
end

-- A constructor is followed by the class of what it makes.
local function describe_function(f)
    local text = table.concat(function_lines(f), "\n")
    local made = f.returns[1] and f.returns[1]:match "^mpengine%.([%w_.]+)"
    if not made or made:match "[%w_]+$" ~= f.name then return text end
    return text .. "\n\n" .. table.concat(class_lines(classes[made]), "\n")
end

-- ---- by name ----

local function normal(name)
    name = name:gsub(":", "."):gsub("%s+", ""):gsub("%(.*$", ""):gsub("^mpengine%.", "mp."):lower()
    return name:match "^mp%.([%w_]+%..*)$" or name
end

-- The functions that a test accepts.
local function those(test)
    local list = {}
    for _, f in ipairs(functions) do
        if test(f) then list[#list + 1] = f end
    end
    return list
end

local function named(name)
    for key, class in pairs(classes) do
        if key:lower() == name then return class end
    end
end

-- Whatever has the word in its name or text, by its signatures.
local function mention(word)
    local list = those(function(f)
        return (id_of(f) .. " " .. table.concat(f.text, " ")):lower():find(word, 1, true) ~= nil
    end)
    if #list == 0 then return nil end
    local out = {}
    for i = 1, math.min(#list, FOUND_MOST) do
        out[i] = (("  %-36s %s"):format(signature_of(list[i]), first_sentence(list[i])):gsub("%s+$", ""))
    end
    if #list > FOUND_MOST then out[#out + 1] = ("  … %d more"):format(#list - FOUND_MOST) end
    return table.concat(out, "\n")
end

local function all_of(list)
    if #list == 1 then return describe_function(list[1]) end
    local texts = {}
    for i, f in ipairs(list) do texts[i] = table.concat(function_lines(f), "\n") end
    return table.concat(texts, "\n\n")
end

--- What is called by that name, or mentions it; nil: nothing.
---@param name string
---@return string?
function help.named(name)
    load()
    local wanted = normal(name)
    local list = those(function(f) return id_of(f):lower() == wanted or id_of(f):lower() == "mp." .. wanted end)
    if #list > 0 then return all_of(list) end
    local class = named(wanted)
    if class then return table.concat(class_lines(class), "\n") end
    list = those(function(f) return f.name:lower() == wanted end)
    if #list > 0 then return all_of(list) end
    return wanted ~= "" and mention(wanted) or nil
end

--- The names of functions and methods of a class, with those it inherits, or of a module: a list.
---@param name string
---@return string[]
function help.names_of(name)
    load()
    local list = {}
    for _, f in ipairs(functions) do
        if f.class == name then list[#list + 1] = f.name end
    end
    for _, field in ipairs(classes[name] and classes[name].fields or {}) do
        list[#list + 1] = field:match "^[%a_][%w_]*"
    end
    for _, parent in ipairs(classes[name] and classes[name].parents or {}) do
        local inherited = help.names_of(parent)
        table.move(inherited, 1, #inherited, #list + 1, list)
    end
    return list
end

--- All names that help knows: "mp.Queue", "Queue:put".
---@return string[]
function help.names()
    load()
    local list = {}
    for i, f in ipairs(functions) do list[i] = signature_of(f):match "^[^(]*" end
    return list
end

-- ---- by value ----

--- The class of an object in the annotations, or nil.
---@param value any
---@return string?
function help.class_of(value)
    load()
    local meta = debug.getmetatable(value)
    local name = type(meta) == "table" and type(value) ~= "string" and rawget(meta, "__name")
    if type(name) ~= "string" then return nil end
    name = name:gsub("^mp%.", "")
    return classes[name] and name or nil
end

--- The module of the library that a table is: "mp", "co" …; or nil.
---@param value any
---@return string?
function help.module_of(value)
    for name, module in pairs(core.modules) do
        if rawequal(module, value) then
            local short_name = name == "mpengine" and "mp" or name:match "^mpengine%.(%w+)$"
            load()
            return classes[short_name or ""] and short_name or nil
        end
    end
end

-- The name of a function of Lua, with that of its module; nil for others.
local function name_in_lua(f)
    for module, t in pairs(package.loaded) do
        for key, value in next, type(t) == "table" and t or {} do
            if rawequal(value, f) and type(key) == "string" then
                return module == "_G" and key or module .. "." .. key
            end
        end
    end
end

-- The key of a function of the library: it is looked for in the modules, in what their functions use, and in
-- metatables.
local function key_in_library(f)
    local queue, seen, at = {}, {}, 1
    local function add(value)
        if (type(value) == "table" or type(value) == "function") and not seen[value] and #queue < WALK_MOST then
            seen[value] = true
            queue[#queue + 1] = value
        end
    end
    seen[_ENV], seen[_G], seen[package.loaded] = true, true, true
    for _, module in pairs(core.modules) do add(module) end
    while queue[at] do
        local value = queue[at]
        at = at + 1
        if type(value) == "table" then
            for key, v in next, value do
                if rawequal(v, f) and type(key) == "string" then return key end
                add(v)
            end
            add(debug.getmetatable(value))
        else
            for i = 1, math.huge do
                local name, v = debug.getupvalue(value, i)
                if not name then break end
                add(v)
            end
        end
    end
end

-- Those of the functions whose class is of the part that the source belongs to: "=mpengine/co/tasks.lua".
local function of_part(list, source)
    local part = source:match "^=mpengine/([%w_]+)"
    local best = {}
    for _, f in ipairs(list) do
        local class = f.class:match "^(%l+)%f[.\0]" or ""
        if class == part or class == "" and not classes[part] then best[#best + 1] = f end
    end
    return #best > 0 and best or list
end

-- The lines of comment above a function of a script, if its file is still there.
local function comment_above(info)
    local file = info.source:sub(1, 1) == "@" and io.open(info.source:sub(2))
    local comment, number = {}, 0
    if not file then return "" end
    for line in file:lines() do
        number = number + 1
        if number == info.linedefined then break end
        local text = line:match "^%s*%-%-+%s?(.*)$"
        if text then comment[#comment + 1] = "  " .. text else comment = {} end
    end
    file:close()
    return table.concat(comment, "\n")
end

-- The functions of modules are found in these, whatever else is called so.
local function of_modules(f)
    return those(function(each)
        local module = core.modules[each.class == "mp" and "mpengine" or "mpengine." .. each.class]
        return type(module) == "table" and rawequal(rawget(module, each.name), f)
    end)
end

local function of_library(f, source)
    local direct = of_modules(f)
    if #direct > 0 then return all_of(direct) end
    local key = key_in_library(f)
    local list = key and those(function(each) return each.name == key end) or {}
    return #list > 0 and all_of(of_part(list, source)) or tostring(f)
end

local function of_function(f)
    local info = debug.getinfo(f, "S")
    local known = name_in_lua(f)
    local class, name = (known or ""):match "^mp%.(%w+)%.([%w_]+)$"
    if class then
        local list = those(function(each) return each.class == class and each.name == name end)
        if #list > 0 then return all_of(list) end
    elseif known and not known:find "^mpengine" and info.what == "C" then
        return ("%s, of Lua: %s%s"):format(known, LUA_MANUAL, known)
    end
    if info.what == "C" or info.source:find "^=mpengine" then return of_library(f, info.source) end
    local comment = comment_above(info)
    local text = ("%s, %s:%d"):format(tostring(f), info.short_src, info.linedefined)
    return comment == "" and text or text .. "\n" .. comment
end

--- What a value is.
---@param value any
---@return string
function help.of(value)
    load()
    if type(value) == "string" then return help.named(value) or ("nothing is called '%s'"):format(value) end
    local class = help.class_of(value) or help.module_of(value)
    if class then return table.concat(class_lines(classes[class]), "\n") end
    if type(value) == "function" then return of_function(value) end
    local kind = math.type(value) or type(value)
    return ("%s %s: %s"):format(kind == "integer" and "an" or "a", kind, tostring(value))
end

--- The global `help`.
help.global = setmetatable({}, {
    __tostring = function() return INTRO end,
    __call = function(_, ...)
        print(select("#", ...) == 0 and INTRO or help.of((...)))
    end,
})

return help

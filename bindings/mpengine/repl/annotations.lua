--- Reads the annotations of the API, bindings/library/mpengine.lua: for help in the interactive mode, and for
--- the index of functions in the manual. Needs nothing else of the library.
local annotations = {}

---@class mpengine.annotations.Function
---@field class string "mp", "Queue", "co.Task"
---@field name string
---@field signature string "mp.Queue(maxsize)", "Queue:put(v, timeout)"
---@field text string[]
---@field params string[] "timeout? number seconds"
---@field returns string[]
---@field overloads string[]
---@field waits boolean

---@class mpengine.annotations.Class
---@field name string
---@field text string[]
---@field fields string[] "pid integer? nil before start"
---@field parents string[]

-- What the comment above a function or class says.
local function described(comment)
    local d = { text = {}, params = {}, returns = {}, fields = {}, overloads = {}, waits = false }
    local lists = { param = d.params, ["return"] = d.returns, field = d.fields, overload = d.overloads }
    for _, line in ipairs(comment) do
        local tag, rest = line:match "^@(%w+)%s*(.*)$"
        if not tag then
            table.insert(d.text, line)
        elseif lists[tag] then
            table.insert(lists[tag], rest)
        elseif tag == "async" then
            d.waits = true
        end
    end
    return d
end

-- The parts between the commas outside of brackets.
local function split(list)
    local parts, depth, from = {}, 0, 1
    for at, c in list:gmatch "()([,{}()<>])" do
        if c ~= "," then
            depth = depth + (c:find "[{(<]" and 1 or -1)
        elseif depth == 0 then
            parts[#parts + 1], from = list:sub(from, at - 1), at + 1
        end
    end
    parts[#parts + 1] = list:sub(from)
    return parts
end

--- The type that a text begins with, and what is said behind it: "fun(): any", "called once".
---@param text string
---@return string kind
---@return string rest
function annotations.split_type(text)
    local depth, at = 0, 1
    while at <= #text do
        local c = text:sub(at, at)
        if c:find "[({<%[]" then
            depth = depth + 1
        elseif c:find "[)}>%]]" then
            depth = depth - 1
        elseif c == " " and depth == 0 and not text:sub(1, at - 1):find "[:|,]$" and not text:find("^ *|", at) then
            break
        end
        at = at + 1
    end
    return text:sub(1, at - 1), (text:sub(at + 1))
end

-- A field that is a method: `dict fun(self, name: string): mpengine.Dict what it is`.
local function method_of(class, field)
    local name, list, rest = field:match "^([%w_]+) fun(%b())(.*)$"
    if not name or not list:find "^%(self" then return nil end
    local f = { class = class, name = name, text = {}, params = {}, returns = {}, overloads = {}, waits = false }
    local names = {}
    for _, part in ipairs(split(list:sub(2, -2))) do
        local param, kind = part:match "^%s*([%w_.]+%??):?%s*(.*)$"
        if param and param ~= "self" then
            names[#names + 1] = (param:gsub("%?$", ""))
            f.params[#f.params + 1] = param .. " " .. kind
        end
    end
    f.signature = ("%s:%s(%s)"):format(class, name, table.concat(names, ", "))
    local result, text = rest:match "^:%s*(%S+)%s*(.*)$"
    f.returns[1] = result
    f.text[1] = (result and text or rest):match "%S.*"
    return f
end

--- All functions in their order, and all classes by their names.
---@param lines fun(): string? an iterator
---@return mpengine.annotations.Function[]
---@return table<string, mpengine.annotations.Class>
function annotations.parse(lines)
    local functions, classes, class_of = {}, {}, {}
    local comment, class = {}, nil

    local function end_class(variable)
        if not class then return end
        local d = described(comment)
        local known = classes[class.name]
        if not known then
            classes[class.name] = { name = class.name, text = d.text, fields = d.fields, parents = class.parents }
            for _, field in ipairs(d.fields) do functions[#functions + 1] = method_of(class.name, field) end
        end
        if variable then class_of[variable] = class.name end
        class = nil
    end

    for line in lines do
        local words = line:match "^%-%-%- ?(.*)$"
        local name, parents = (words or ""):match "^@class mpengine%.?([%w_.]*)%s*:?%s*(.*)$"
        if name then
            class = { name = name == "" and "mp" or name, parents = {} }
            for parent in parents:gmatch "mpengine%.([%w_.]+)" do table.insert(class.parents, parent) end
        elseif words then
            comment[#comment + 1] = words
        else
            local owner, mark, method, arguments = line:match "^function ([%w_]+)([.:])([%w_]+)(%b())"
            end_class(line:match "^local ([%w_]+) = {}")
            if owner then
                local f = described(comment)
                f.class, f.name = class_of[owner], method
                f.signature = f.class .. mark .. method .. arguments
                functions[#functions + 1] = f
            end
            comment = {}
        end
    end
    end_class()
    return functions, classes
end

return annotations

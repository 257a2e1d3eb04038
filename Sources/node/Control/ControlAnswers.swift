import Foundation

/// What a node answers, by command. Fixed when the control socket opens.
struct ControlAnswers: Sendable {
    private typealias Responder = @Sendable (_ line: Data) async throws -> [UInt8]

    private var responders: [String: Responder] = [:]
    /// Told to those who ask for what this release does not know.
    private let release: String

    init(release: String) {
        self.release = release
    }

    /// Has a question answered. What the answer throws the asker is told, so it must be a `ControlFailure`, or another
    /// error with nothing secret in its words.
    mutating func add<Question: ControlQuestion>(
        _ question: Question.Type = Question.self,
        _ answer: @escaping @Sendable (Question) async throws -> Question.Answer
    ) {
        self.responders[Question.command] = { line in
            let question: ControlMessage.Question<Question>
            do {
                question = try JSONDecoder().decode(ControlMessage.Question<Question>.self, from: line)
            } catch {
                throw ControlFailure("the fields of '\(Question.command)' were not understood")
            }
            return try ControlMessage.encode(ControlMessage.Answer(body: try await answer(question.body)))
        }
    }

    /// - Returns: the line to answer this one with, whatever it is.
    func answer(_ line: [UInt8]) async -> [UInt8] {
        do {
            return try await self.respond(Data(line))
        } catch {
            let failure = ControlMessage.Answer<[String: String]>(error: "\(error)")
            // Encoding two texts does not fail; without an answer the asker would be told of a closed socket.
            return (try? ControlMessage.encode(failure)) ?? []
        }
    }

    private func respond(_ line: Data) async throws -> [UInt8] {
        guard let head = try? JSONDecoder().decode(ControlMessage.Head.self, from: line) else {
            throw ControlFailure("the question is not one line of JSON with version and command")
        }
        guard head.version == ControlMessage.version else {
            throw ControlFailure(
                "the node (\(self.release)) speaks version \(ControlMessage.version) and was asked in \(head.version)"
            )
        }
        guard let responder = self.responders[head.command] else {
            let name = String(head.command.prefix(64)).escaped
            throw ControlFailure("the node (\(self.release)) does not know the command '\(name)'")
        }
        return try await responder(line)
    }
}
